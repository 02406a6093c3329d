"""Check where a sweep writes, before PyTorch and Ray load."""

from reidray.data.output_checks import check_apart
from reidray.training.run_directory import RunDirectory
from reidray.tuning.config import TuneConfig


def new_sweep(config: TuneConfig) -> RunDirectory:
    """Return the folder of a new sweep, which is not made yet.

    Raises:
        UserError: it holds something, cannot be made, or would mix with the images.
    """
    check_apart(("--output", config.output), {"--data": config.data})
    output = RunDirectory.at(config.output)
    output.check_new("go on with the sweep in it by --resume")
    return output
