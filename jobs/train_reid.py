"""Train a network that recognises people, and their attributes, on a Ray cluster."""

import sys
import time
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--data CROPS --recipe market_small"


def train() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config import TrainReidConfig

    started = time.time()
    asked = parse_config(TrainReidConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.training.input_files import check_training_inputs
    from reidray.training.runs.run_directory import claim_run

    check_training_inputs(asked.config)
    with claim_run(asked.config, asked.resume) as run:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.interrupts import offer_resume
            from reidray.ray_runtime import ray_session
            from reidray.training.experiment import CONFIG_FILE
            from reidray.training.tasks.reid.prepare import build_reid_experiment
            from reidray.training.tasks.reid.train import train_reid

        with Activity(f"reading {asked.config.data}", delay=SHOW_AFTER_SECONDS):
            experiment = build_reid_experiment(asked.config, run, asked.sources)
        offer_resume(asked.arguments_to_resume(run.location.uri), once=run.folder / CONFIG_FILE)
        with ray_session(asked.session.ray_address, verbose=asked.session.verbose):
            return train_reid(experiment, started=started)


if __name__ == "__main__":
    run_job(train)
