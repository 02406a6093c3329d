"""Train a network that names what an image shows and draws it, or says what a person wears."""

import sys
import time
from typing import Any

from reidray.config import TrainMultitaskConfig
from reidray.job import parse_config, run_job


def train() -> dict[str, Any]:
    """What the command line asks for."""
    started = time.time()
    asked = parse_config(
        TrainMultitaskConfig, sys.argv[1:], description=__doc__, trains="multitask"
    )

    from reidray.training.run_directory import new_run

    if asked.resume is None:
        new_run(asked.config)  # refuses a bad output before PyTorch loads

    from reidray.session import ray_session
    from reidray.training.multitask.prepare import prepare_multitask
    from reidray.training.multitask.train import train_multitask

    prepared = prepare_multitask(asked.config, asked.resume)
    with ray_session(asked.session.ray_address, verbose=asked.session.verbose):
        return train_multitask(prepared, started=started)


if __name__ == "__main__":
    run_job(train)
