"""Hold what each process of a training needs, and run it there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from reidray.config import TrainingConfig
from reidray.config.sections.open_section import config_to_dict, default_settings
from reidray.data.crop_labels import CropLabels
from reidray.data.images.crops import CropReader
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.factory import build_network
from reidray.models.weights import WeightSource, load_weights
from reidray.registry import import_plugins
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import Callback, Metrics, Task, TrainerConfig, fit
from reidray.training.time_budget import TimeLimit

CHANGEABLE_ON_RESUME = (
    "data",
    "root",
    "follow_links",
    "output",
    "max_minutes",
    "num_workers",
    "min_workers",
    "max_failures",
    "use_gpu",
    "compile",
    "sync_batchnorm",
    "ingest",
    "no_images",
    "plugins",
)
"""Keys of the configuration that may change where a run is resumed."""

BuildTask: TypeAlias = (
    "Callable[[Any, Mapping[str, CropLabels], CropReader, DistributedContext], Task]"
)
"""Function that builds a task from a configuration, labels by split, crops and this process."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Hold everything that a training process needs.

    Attributes:
        config: configuration of the training.
        architecture: description of the network.
        training_data: fingerprint of the manifest.
        labels: labels of the crops by split.
        crops: decoded images.
        build_task: function that builds the task in each process.
        limit: time limit of the job; None for no limit.
        bf16: whether the network computes in bfloat16.
        threads: CPU threads of the process.
        weights: weights that the network starts from; None for random ones.
        sync_batchnorm: whether all processes compute the statistics of batch normalisation
            together.
        changeable: keys of the configuration that may differ from the checkpoint's.
    """

    config: TrainingConfig
    architecture: Architecture[Any]
    training_data: str
    labels: Mapping[str, CropLabels]
    crops: CropDataset
    build_task: BuildTask
    limit: TimeLimit | None
    bf16: bool
    threads: int
    weights: WeightSource | None = None
    sync_batchnorm: bool = False
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME

    def run(self, context: DistributedContext, callback: Callback, checkpoint: Path | None) -> None:
        """Train in this process, from a checkpoint if there is one.

        Raises:
            UserError: the checkpoint belongs to another configuration, or the loss is not finite.
        """
        config = self.config
        import_plugins(config.plugins)
        torch.set_num_threads(self.threads)
        torch.manual_seed(config.seed)
        network = build_network(self.architecture)
        if self.weights is not None and checkpoint is None:
            load_weights(network, self.weights)
        trainer = TrainerConfig(
            epochs=config.epochs,
            seed=config.seed,
            optimizer=config.optimizer,
            validation=config.validation,
            limit=self.limit,
            bf16=self.bf16,
            compile=config.compile,
            sync_batchnorm=self.sync_batchnorm,
        )
        fit(
            self.build_task(config, self.labels, self.crops.open(), context),
            network,
            trainer,
            callback,
            context=context,
            settings=resume_settings(config, self.training_data, changeable=self.changeable),
            default_settings=default_settings(config),
            checkpoint=checkpoint,
        )


def resume_settings(
    config: TrainingConfig,
    training_data: str,
    *,
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME,
) -> Metrics:
    """Return the settings that a resumed training must share with its checkpoint.

    Args:
        config: configuration of the training.
        training_data: fingerprint of the manifest.
        changeable: keys of the configuration that may differ.
    """
    settings = {
        key: value for key, value in config_to_dict(config).items() if key not in changeable
    }
    return settings | {"training data": training_data}


@contextmanager
def naming_memory() -> Iterator[None]:
    """Turn a lack of memory of a GPU into one line.

    Raises:
        UserError: the batch does not fit in memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(".")[0]
        raise UserError(f"{reason}: use smaller batches, or smaller crops") from error
