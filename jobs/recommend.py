"""Recommend films: what the users who rate genres alike rated highest."""

import sys
from typing import Any

from reidray.job import parse_config, run_job

EXAMPLE = "--ratings ratings.csv --movies movies.csv --users 4 42"


def recommend() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.recommendation.config import RecommendConfig

    asked = parse_config(RecommendConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.data.input_checks import check_file
    from reidray.progress import SAID_AFTER, Activity
    from reidray.recommendation.output_folder import check_recommend_places

    check_file("--ratings", asked.config.ratings)
    check_file("--movies", asked.config.movies)
    check_recommend_places(asked.config)  # before Ray loads

    with Activity("loading Ray", delay=SAID_AFTER):
        from reidray.recommendation.run import recommend_films
        from reidray.session import ray_session

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    return recommend_films(asked.config, session)


if __name__ == "__main__":
    run_job(recommend)
