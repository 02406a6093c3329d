"""Train a few steps of a training itself, to find what fits into memory and how long it takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reidray.data.crop_labels import CropLabels
from reidray.data.images.crops import CropReader
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.train_job import BuildTask, TrainJob
from reidray.training.loop import Metrics, Task


def train_shortly(
    job: TrainJob, images: int, device: torch.device, *, steps: int, epochs: int = 1
) -> list[Metrics]:
    """Train a few steps of one worker, without validation, and return the record of each epoch.

    All weights have a gradient, the network starts from random weights, and nothing is compiled.

    Args:
        job: the training.
        images: number of images in a batch of the worker.
        device: device of the worker.
        steps: number of steps in an epoch.
        epochs: number of epochs.

    Raises:
        RuntimeError: memory does not suffice.
    """
    optimizer = replace(job.config.optimizer, freeze_backbone=0.0)
    validation = replace(job.config.validation, patience=0)
    config = replace(
        job.config,
        optimizer=optimizer,
        validation=validation,
        num_workers=1,
        min_workers=None,
        epochs=epochs,
        compile=False,
    )
    short = replace(
        job,
        config=config.with_images_per_batch(images),
        build_task=_ShortTaskBuilder(job.build_task, steps),
        limit=None,
        weights=None,
        sync_batchnorm=False,
    )
    callback = _Records()
    short.run(DistributedContext(device=device), callback, None)
    return callback.records


@dataclass(frozen=True)
class _ShortTaskBuilder:
    """Build a task whose epochs have a few steps.

    Attributes:
        build_task: function that builds the whole task.
        steps: number of steps in an epoch.
    """

    build_task: BuildTask
    steps: int

    def __call__(
        self,
        config: Any,
        labels: Mapping[str, CropLabels],
        crops: CropReader,
        context: DistributedContext,
    ) -> Task:
        """Return the task."""
        task = self.build_task(config, labels, crops, context)
        return _ShortTask(task, config.validation.select_by, self.steps)


class _ShortTask:
    """Train the first steps of a task, and validate nothing.

    Args:
        task: the whole task.
        select_by: metric of a validation.
        steps: number of steps in an epoch.
    """

    validation_images = 0

    def __init__(self, task: Task, select_by: str, steps: int) -> None:
        self._task, self._select_by, self.steps_per_epoch = task, select_by, steps
        self.batch_size, self.prepare, self.losses = task.batch_size, task.prepare, task.losses
        self.training_metrics = task.training_metrics

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the first batches, and those of later epochs where an epoch has too few."""
        epochs = range(epoch, epoch + self.steps_per_epoch)
        batches = chain.from_iterable(map(self._task.batches, epochs))
        return islice(batches, self.steps_per_epoch)

    def validate(self, _: nn.Module) -> Metrics:
        """Return a finite metric, which a training needs at its end."""
        return {self._select_by: 0.0}


@dataclass
class _Records:
    """Keep the record of each epoch, and no checkpoint."""

    records: list[Metrics] = field(default_factory=list)

    def on_train_start(self, records: list[Metrics]) -> None:
        """Do nothing."""

    def on_progress(self, progress: object) -> None:
        """Do nothing."""

    def on_epoch_end(self, record: Metrics, save: Callable[[Path], None]) -> None:  # noqa: ARG002
        """Keep the record."""
        self.records.append(record)
