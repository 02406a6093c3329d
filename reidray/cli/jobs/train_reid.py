"""Train a network that recognises people."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config import TrainingConfig
    from reidray.training.runs.run_directory import RunDirectory


def run_training(arguments: "JobArguments[TrainingConfig]") -> dict[str, Any]:
    """Train in a new run directory, resume one, or plan a training."""
    if arguments.plan:
        return _plan(arguments)
    from reidray.interrupts import set_resume_command
    from reidray.training.runs.run_directory import CONFIG_FILE
    from reidray.training.train import train

    def offer_command(run: "RunDirectory") -> None:
        command = arguments.command_to_resume_run(run.location.uri)
        set_resume_command(command, once=run.folder / CONFIG_FILE)

    run = train(
        arguments.config,
        resume=arguments.resume,
        sources=arguments.sources,
        ray_address=arguments.session.ray_address,
        verbose=arguments.session.verbose,
        wait_for_resources=arguments.session.wait_for_resources,
        started=arguments.started,
        on_start=offer_command,
    )
    return run.to_json()


def _plan(arguments: "JobArguments[TrainingConfig]") -> dict[str, Any]:
    """Plan a new training."""
    from reidray.errors import UserError
    from reidray.training.train import plan_training

    if arguments.resume is not None:
        raise UserError(
            "`plan` plans a new training: give --config RUN/config.yaml in place of --resume RUN"
        )
    return plan_training(
        arguments.config,
        sources=arguments.sources,
        ray_address=arguments.session.ray_address,
        verbose=arguments.session.verbose,
        wait_for_resources=arguments.session.wait_for_resources,
    )


JOB = Job(
    name="train-reid",
    description="Train a network that recognises people, and their attributes, on a Ray cluster.",
    example="--data CROPS --recipe market_small",
    config="reidray.config:TrainReidConfig",
    run=run_training,
)
