"""Read and check what a sweep varies, before PyTorch and Ray load."""

from reidray.cli.arguments import Invocation
from reidray.cli.job import parse_config
from reidray.config import TrainingConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.tuning import TuneConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import check_data
from reidray.tuning.space import read_space

CONFIGS: dict[str, type[TrainingConfig]] = {
    "reid": TrainReidConfig,
    "multitask": TrainMultitaskConfig,
}
"""The configuration of each kind of training that a sweep can vary."""


def read_base(config: TuneConfig) -> Invocation[TrainingConfig]:
    """Return the configuration of the recipe that is varied.

    Raises:
        UserError: there is no such recipe, or the file of the base is wrong.
    """
    arguments = [f"--recipe={config.recipe}", f"--data={config.data}"]
    if config.base is not None:
        arguments.append(f"--config={config.base}")
    return parse_config(CONFIGS[config.task], arguments, trains=config.task)


def check_tune_inputs(config: TuneConfig) -> None:
    """Refuse a sweep whose images, recipe, base or space are missing or wrong.

    Raises:
        UserError: names what is wrong.
    """
    check_data("--data", config.data)
    base = read_base(config).config
    read_space(config.space, config.task, base)
    check_layout(config.data, config.layout or base.layout, follow_links=base.follow_links)
