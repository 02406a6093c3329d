"""Train and score on a demo set."""

import logging
from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config import QuickstartConfig

log = logging.getLogger(__name__)


def quickstart(arguments: "JobArguments[QuickstartConfig]") -> dict[str, Any]:
    """Run all steps in a new folder."""
    from reidray.config import TrainReidConfig
    from reidray.config.loading import load_config
    from reidray.progress import Activity
    from reidray.quickstart_folder import DATA_FOLDER, lock_folder

    with lock_folder(arguments.config.output) as folder:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray"):
            from reidray.quickstart import run_quickstart

        training = load_config(TrainReidConfig, "demo", {"data": "demo"}).config
        session = arguments.session.connect()
        results = run_quickstart(arguments.config, training, session, folder)
        log.info(
            "\nNext, your own crops: a folder for each person under train/, then\n"
            "  %s --data FOLDER --recipe market_small --max-minutes 60\n"
            "  %s --model %s \\\n    --queries %s --gallery %s --output scores",
            command_of(arguments.command, "train-reid"),
            command_of(arguments.command, "score-nightly"),
            results["model"],
            folder / DATA_FOLDER / "queries",
            folder / DATA_FOLDER / "test",
        )
        return results


def command_of(command: str, job: str) -> str:
    """Return the command of another job, in the form of the command of this job.

    >>> command_of("uv run jobs/quickstart.py", "train-reid")
    'uv run jobs/train_reid.py'
    >>> command_of("reidray quickstart", "train-reid")
    'reidray train-reid'
    """
    before, _, after = command.rpartition("quickstart")
    return f"{before}{job.replace('-', '_') if after.startswith('.py') else job}{after}"


JOB = Job(
    name="quickstart",
    description="Draw a demo set, train on it, score its test part, and show the metrics.",
    config="reidray.config:QuickstartConfig",
    run=quickstart,
)
