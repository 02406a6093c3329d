"""Score a night's images: rank the gallery for every query and predict its attributes."""

import sys
from typing import Any

from reidray.job import parse_config, run_job
from reidray.scoring.config import ScoreConfig


def score_nightly() -> dict[str, Any]:
    """What the command line asks for."""
    asked = parse_config(ScoreConfig, sys.argv[1:], description=__doc__)

    from reidray.scoring.night import score_night
    from reidray.session import ray_session

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    return score_night(asked.config, session)


if __name__ == "__main__":
    run_job(score_nightly)
