"""Check the inputs and the output folder of a sweep before PyTorch and Ray load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.loading import LoadedConfig, load_config
from reidray.config.tuning import TuneConfig
from reidray.data.layouts import check_layout
from reidray.errors import UserError
from reidray.storage.input_checks import check_data
from reidray.storage.output_checks import check_disjoint
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.search_space import read_space

SWEEP_FILE = "sweep.yaml"

CONFIGS: dict[str, type[TrainingConfig]] = {
    "reid": TrainReidConfig,
    "multitask": TrainMultitaskConfig,
}
"""The configuration of each kind of training that a sweep can vary."""


def read_base(config: TuneConfig) -> LoadedConfig[TrainingConfig]:
    """Return the configuration of the recipe that is varied.

    Raises:
        UserError: there is no such recipe, or the file of the base is wrong.
    """
    files = [] if config.base is None else [Path(config.base)]
    return load_config(CONFIGS[config.task], config.recipe, {"data": config.data}, files)


def check_tune_inputs(config: TuneConfig) -> None:
    """Refuse a sweep whose images, recipe, base or space are missing or wrong.

    Raises:
        UserError: names what is wrong.
    """
    check_data("--data", config.data)
    base = read_base(config).config
    read_space(config.space, config.task, base)
    check_layout(config.data, config.layout or base.layout, follow_links=base.follow_links)


@contextmanager
def claim_sweep_folder(config: TuneConfig) -> Iterator[RunDirectory]:
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
    check_disjoint(("--output", config.output), {"--data": config.data})
    if not config.resume:
        output.check_new("go on with the sweep in it by --resume")
    elif not output.location.join(SWEEP_FILE).is_file():
        raise UserError(f"output {config.output} holds no sweep to resume: leave out --resume")
