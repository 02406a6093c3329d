"""Draw a demo set, train on it, score its test part, and see the figures: no download needed."""

import sys
from typing import Any

from reidray.cli.job import parse_config, run_job


def quickstart() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config import QuickstartConfig, TrainReidConfig
    from reidray.config.loading import load_config

    asked = parse_config(QuickstartConfig, sys.argv[1:], description=__doc__)

    from reidray.progress import Activity
    from reidray.quickstart_folder import claim_folder

    with claim_folder(asked.config.folder) as folder:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray"):
            from reidray.quickstart import run_quickstart
            from reidray.ray_runtime import ray_session

        demo = load_config(TrainReidConfig, "demo", {"data": "demo"})
        session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
        return run_quickstart(asked.config, demo.config, session, folder)


if __name__ == "__main__":
    run_job(quickstart)
