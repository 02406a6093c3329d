"""Train and score on a demo set."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config import QuickstartConfig


def quickstart(arguments: "JobArguments[QuickstartConfig]") -> dict[str, Any]:
    """Run all steps in a new folder."""
    from reidray.config import TrainReidConfig
    from reidray.config.loading import load_config
    from reidray.progress import Activity
    from reidray.quickstart_folder import lock_folder

    with lock_folder(arguments.config.output) as folder:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray"):
            from reidray.quickstart import run_quickstart
            from reidray.ray_runtime import ray_session

        training = load_config(TrainReidConfig, "demo", {"data": "demo"}).config
        session = ray_session(arguments.session.ray_address, verbose=arguments.session.verbose)
        return run_quickstart(arguments.config, training, session, folder)


JOB = Job(
    name="quickstart",
    description="Draw a demo set, train on it, score its test part, and show the metrics.",
    config="reidray.config:QuickstartConfig",
    run=quickstart,
)
