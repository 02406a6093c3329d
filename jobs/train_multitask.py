"""Train a network that names what an image shows and draws it, or says what a person wears."""

import sys
import time
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--task pets --data PETS --recipe pets_mobilenet_transpose"


def train() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config import TrainMultitaskConfig

    started = time.time()
    asked = parse_config(TrainMultitaskConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)

    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.training.input_files import check_training_inputs
    from reidray.training.runs.run_directory import claim_run

    check_training_inputs(asked.config)
    with claim_run(asked.config, asked.resume) as run:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.interrupts import offer_resume
            from reidray.ray_runtime import ray_session
            from reidray.training.experiment import CONFIG_FILE
            from reidray.training.tasks.multitask.prepare import build_multitask_experiment
            from reidray.training.tasks.multitask.train import train_multitask

        with Activity(f"reading {asked.config.data}", delay=SHOW_AFTER_SECONDS):
            experiment = build_multitask_experiment(asked.config, run, asked.sources)
        offer_resume(asked.arguments_to_resume(run.location.uri), once=run.folder / CONFIG_FILE)
        with ray_session(asked.session.ray_address, verbose=asked.session.verbose):
            return train_multitask(experiment, started=started)


if __name__ == "__main__":
    run_job(train)
