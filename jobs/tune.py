"""Train a recipe many times under settings that vary, and keep the best."""

import sys
from typing import Any

from reidray.job import parse_config, run_job


def tune() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.tuning.config import TuneConfig

    asked = parse_config(TuneConfig, sys.argv[1:], description=__doc__)

    from reidray.tuning.sweep_folder import new_sweep

    if not asked.config.resume:
        new_sweep(asked.config)  # refuses a bad output before PyTorch loads

    from reidray.interrupts import offer_resume
    from reidray.session import ray_session
    from reidray.tuning.sweep import SWEEP_FILE, prepare_sweep, run_sweep

    sweep = prepare_sweep(asked.config)
    again = [argument for argument in sys.argv[1:] if argument != "--resume"]
    offer_resume([*again, "--resume"], once=sweep.output.folder / SWEEP_FILE)
    session = ray_session(
        asked.session.ray_address,
        verbose=asked.session.verbose,
        dashboard=sweep.prepared.config.num_workers > 1,
    )
    with session:
        return run_sweep(sweep)


if __name__ == "__main__":
    run_job(tune)
