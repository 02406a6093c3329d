"""Train a network for classes and masks, or for attributes."""

from reidray.cli.job import Job
from reidray.cli.jobs.train_reid import run_training

JOB = Job(
    name="train-multitask",
    description="Train a network that predicts classes and masks, or attributes, on a Ray cluster.",
    example="--task pets --data PETS --recipe pets_mobilenet_transpose",
    config="reidray.config:TrainMultitaskConfig",
    run=run_training,
)
