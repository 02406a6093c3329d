"""Score a night's images: rank the gallery for every query and predict its attributes."""

import sys
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--model RUN/model --queries QUERIES --gallery GALLERY --output scores"


def score_nightly() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.scoring import ScoreConfig

    asked = parse_config(ScoreConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.scoring.scoring_paths import check_score_inputs, check_score_outputs

    check_score_inputs(asked.config)
    check_score_outputs(asked.config)  # before PyTorch loads

    with Activity("loading PyTorch", delay=SHOW_AFTER_SECONDS):
        from reidray.ray_runtime import ray_session, starts_local_ray
        from reidray.scoring.nightly_run import run_nightly

    address = asked.session.ray_address
    session = ray_session(address, verbose=asked.session.verbose)
    return run_nightly(asked.config, session, starts_ray=starts_local_ray(address))


if __name__ == "__main__":
    run_job(score_nightly)
