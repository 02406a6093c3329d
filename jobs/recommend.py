"""Recommend films: what the users who rate genres alike rated highest."""

import sys
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--ratings ratings.csv --movies movies.csv --users 4 42"


def recommend() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.films import RecommendConfig

    asked = parse_config(RecommendConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.storage.input_checks import check_file
    from reidray.studies.films.recommend_checks import check_recommend_output

    check_file("--ratings", asked.config.ratings)
    check_file("--movies", asked.config.movies)
    check_recommend_output(asked.config)  # before Ray loads

    with Activity("loading Ray", delay=SHOW_AFTER_SECONDS):
        from reidray.ray_runtime import ray_session
        from reidray.studies.films.recommendation import recommend_films

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    return recommend_films(asked.config, session)


if __name__ == "__main__":
    run_job(recommend)
