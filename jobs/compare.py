"""Put classical baselines and trained models side by side on one gallery and its queries."""

import sys
from typing import Any

from reidray.job import parse_config, run_job

EXAMPLE = "--data CROPS --models mine=RUN/model --output compared"


def compare() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.comparison.config import CompareConfig

    asked = parse_config(CompareConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.comparison.files import check_compare_inputs, check_compare_places

    check_compare_inputs(asked.config)
    check_compare_places(asked.config)  # before PyTorch loads

    from reidray.session import ray_session

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    if asked.config.task == "pets":
        from reidray.comparison.pets import compare_pets

        return compare_pets(asked.config, session)

    from reidray.comparison.reid import compare_reid

    return compare_reid(asked.config, session)


if __name__ == "__main__":
    run_job(compare)
