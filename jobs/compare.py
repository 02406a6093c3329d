"""Put classical baselines and trained models side by side on one gallery and its queries."""

import sys
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--data CROPS --models mine=RUN/model --output compared"


def compare() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.comparison import CompareConfig

    asked = parse_config(CompareConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.comparison.compare_checks import check_compare_inputs, check_compare_output
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    check_compare_inputs(asked.config)
    check_compare_output(asked.config)  # before PyTorch loads

    with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
        from reidray.comparison.reid_comparison import compare_reid
        from reidray.ray_runtime import ray_session
        from reidray.studies.pets_comparison import compare_pets

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    if asked.config.task == "pets":
        return compare_pets(asked.config, session)
    return compare_reid(asked.config, session)


if __name__ == "__main__":
    run_job(compare)
