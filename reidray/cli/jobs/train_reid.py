"""Train a network that recognises people."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config import TrainReidConfig


def train(arguments: "JobArguments[TrainReidConfig]") -> dict[str, Any]:
    """Train in a new run directory, or go on with one."""
    from reidray.interrupts import offer_resume
    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.training.input_files import check_training_inputs
    from reidray.training.runs.run_directory import claim_run

    config = arguments.config
    check_training_inputs(config)
    with claim_run(config, arguments.resume) as run:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.ray_runtime import ray_session
            from reidray.training.experiment import CONFIG_FILE
            from reidray.training.tasks.reid.prepare import build_reid_experiment
            from reidray.training.tasks.reid.train import train_reid

        with Activity(f"reading {config.data}", delay=SHOW_AFTER_SECONDS):
            experiment = build_reid_experiment(config, run, arguments.sources)
        command = arguments.command_to_resume_run(run.location.uri)
        offer_resume(command, once=run.folder / CONFIG_FILE)
        with ray_session(arguments.session.ray_address, verbose=arguments.session.verbose):
            return train_reid(experiment, started=arguments.started)


JOB = Job(
    name="train-reid",
    description="Train a network that recognises people, and their attributes, on a Ray cluster.",
    example="--data CROPS --recipe market_small",
    config="reidray.config:TrainReidConfig",
    run=train,
)
