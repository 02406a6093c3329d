"""Train a recipe many times under settings that vary, and keep the best."""

import sys
import time
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--data CROPS --recipe reid_small --space learning_rate --output sweep"


def tune() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.tuning import TuneConfig

    started = time.time()
    asked = parse_config(TuneConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.tuning.sweep_inputs import SWEEP_FILE, check_tune_inputs, claim_sweep_folder

    check_tune_inputs(asked.config)
    with claim_sweep_folder(asked.config) as output:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.interrupts import offer_resume
            from reidray.ray_runtime import ray_session
            from reidray.tuning.sweep import prepare_sweep, run_sweep

        with Activity(f"reading {asked.config.data}", delay=SHOW_AFTER_SECONDS):
            sweep = prepare_sweep(asked.config, output)
        again = [argument for argument in sys.argv[1:] if argument != "--resume"]
        offer_resume([*again, "--resume"], once=sweep.output.folder / SWEEP_FILE)
        session = ray_session(
            asked.session.ray_address,
            verbose=asked.session.verbose,
            dashboard=sweep.experiment.config.num_workers > 1,
        )
        with session:
            return run_sweep(sweep, started=started)


if __name__ == "__main__":
    run_job(tune)
