"""Check the folder of a sweep before PyTorch and Ray load."""

from collections.abc import Iterator
from contextlib import contextmanager

from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.storage.output_checks import check_apart
from reidray.training.run_directory import RunDirectory

SWEEP_FILE = "sweep.yaml"


@contextmanager
def claimed_sweep(config: TuneConfig) -> Iterator[RunDirectory]:
    """Choose the folder of a sweep, and keep every other job from writing it.

    Raises:
        UserError: another job is writing it, it holds something, cannot be made, would mix with the
            images, or has no sweep to resume.
    """
    output = RunDirectory.at(config.output)
    with output.claimed():
        check_sweep(output, config)
        yield output


def check_sweep(output: RunDirectory, config: TuneConfig) -> None:
    """Refuse a folder that a new sweep cannot be made in, or that has none to resume.

    Raises:
        UserError: says so.
    """
    check_apart(("--output", config.output), {"--data": config.data})
    if not config.resume:
        output.check_new("go on with the sweep in it by --resume")
    elif not output.location.join(SWEEP_FILE).is_file():
        raise UserError(f"output {config.output} holds no sweep to resume: leave out --resume")
