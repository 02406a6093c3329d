"""Check the inputs of a training before PyTorch and Ray load."""

from reidray.config import TrainingConfig
from reidray.data.layouts import check_layout
from reidray.storage.input_checks import check_data, check_file

NAMED_WEIGHTS = ("none", "imagenet")


def check_training_inputs(config: TrainingConfig) -> None:
    """Refuse a training whose images or first weights are missing, or of no known layout.

    Raises:
        UserError: names the flag.
    """
    check_data("--data", config.data)
    if config.network.weights not in NAMED_WEIGHTS:
        check_file("--network.weights", config.network.weights)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
