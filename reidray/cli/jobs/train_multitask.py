"""Train a network for classes and masks, or for attributes."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config import TrainMultitaskConfig


def train(arguments: "JobArguments[TrainMultitaskConfig]") -> dict[str, Any]:
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
            from reidray.training.tasks.multitask.prepare import build_multitask_experiment
            from reidray.training.tasks.multitask.train import train_multitask

        with Activity(f"reading {config.data}", delay=SHOW_AFTER_SECONDS):
            experiment = build_multitask_experiment(config, run, arguments.sources)
        command = arguments.command_to_resume_run(run.location.uri)
        offer_resume(command, once=run.folder / CONFIG_FILE)
        with ray_session(arguments.session.ray_address, verbose=arguments.session.verbose):
            return train_multitask(experiment, started=arguments.started)


JOB = Job(
    name="train-multitask",
    description="Train a network that predicts classes and masks, or attributes, on a Ray cluster.",
    example="--task pets --data PETS --recipe pets_mobilenet_transpose",
    config="reidray.config:TrainMultitaskConfig",
    run=train,
)
