"""Check the inputs and the output folder of a sweep before PyTorch and Ray load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.loading import LoadedConfig, load_config
from reidray.config.tuning import TuneConfig
from reidray.data.layouts import check_layout
from reidray.errors import UserError
from reidray.storage.input_checks import check_data, check_weights
from reidray.storage.output_checks import check_disjoint
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.search_space import load_space

SWEEP_FILE = "sweep.yaml"

CONFIGS: dict[str, type[TrainingConfig]] = {
    "reid": TrainReidConfig,
    "multitask": TrainMultitaskConfig,
}
"""The configuration class of each kind of training."""


def load_base(config: TuneConfig) -> LoadedConfig[TrainingConfig]:
    """Load the training configuration that the sweep varies: the recipe, and the base over it.

    Raises:
        UserError: the recipe does not exist, or the base is no valid configuration.
    """
    files = [] if config.base is None else [Path(config.base)]
    loaded = load_config(CONFIGS[config.task], config.recipe, {"data": config.data}, files)
    if loaded.config.auto_batch:
        raise UserError(
            "auto_batch finds the largest batch for one training, and a sweep has many: give a "
            "number in the base"
        )
    return loaded


def check_tune_inputs(config: TuneConfig) -> None:
    """Check the images, the recipe, the base and the search space of a sweep.

    Raises:
        UserError: a field or file is missing or wrong; the message names it.
    """
    check_data("data", config.data)
    base = load_base(config).config
    check_weights("network.weights", base.network.weights)
    load_space(config.space, config.task, base)
    check_layout(config.data, config.layout or base.layout, follow_links=base.follow_links)


@contextmanager
def claim_sweep_folder(config: TuneConfig) -> Iterator[RunDirectory]:
    """Claim the output folder of a sweep, so that no other job writes to it in the block.

    Raises:
        UserError: another job writes to the folder, or `check_sweep_folder` refuses it.
    """
    output = RunDirectory.from_uri(config.output)
    with output.locked():
        check_sweep_folder(output, config)
        yield output


def check_sweep_folder(output: RunDirectory, config: TuneConfig) -> None:
    """Check that the folder is empty for a new sweep, or holds a sweep to resume.

    Raises:
        UserError: the folder does not, overlaps with the images, or cannot be written.
    """
    check_disjoint("output", config.output, {"data": config.data})
    if not config.resume:
        output.check_new("resume the sweep in it with `resume`")
    elif not output.location.join(SWEEP_FILE).is_file():
        raise UserError(f"output {config.output} holds no sweep to resume: leave out `resume`")
