"""Read how the compared networks were trained: their configurations and their metrics."""

import json
from collections.abc import Mapping
from typing import Any

from reidray.config import TrainMultitaskConfig
from reidray.config.loading import load_config
from reidray.errors import UserError
from reidray.models import LoadedModel
from reidray.storage.location import Location
from reidray.training.runs.run_directory import METRICS_FILE


def training_configs(models: Mapping[str, LoadedModel]) -> dict[str, TrainMultitaskConfig]:
    """Return the configuration of each network's training, where its model card holds one."""
    configs = {}
    for name, model in models.items():
        try:
            loaded = load_config(TrainMultitaskConfig, overrides=model.card.recipe)
        except UserError:  # made without a training, or by a version with other settings
            continue
        configs[name] = loaded.config
    return configs


def read_training_metrics(folders: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the metrics of each epoch of the trainings whose model lies in its run directory.

    Args:
        folders: the model directory of each network by the network's name.

    Raises:
        UserError: a file of metrics cannot be read.
    """
    runs = {name: Location(folder).parent for name, folder in folders.items()}
    return {
        name: [json.loads(line) for line in run.read_bytes(METRICS_FILE).splitlines()]
        for name, run in runs.items()
        if run.join(METRICS_FILE).is_file()
    }
