"""A training process: what it is told, what it runs and how it tells of it."""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from ray.util.queue import Queue

from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.factory import build_network
from reidray.training.distributed_context import DistributedContext
from reidray.training.failures import bug_behind
from reidray.training.loop import (
    Callback,
    Metrics,
    StepProgress,
    Task,
    TrainerConfig,
    fit,
    settings_of,
)
from reidray.training.time_budget import TimeLimit

CHANGEABLE_ON_RESUME = (
    "data",
    "root",
    "follow_links",
    "output",
    "max_minutes",
    "num_workers",
    "max_failures",
    "use_gpu",
    "ingest",
)
"""Settings that may differ between the parts of a training that is stopped and resumed."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All a training process needs to know.

    Attributes:
        architecture: the network.
        training_data: fingerprint of the images and what is known of them.
        make_task: makes what is learned, in each process for its own part of it.
        limit: of the job's time.
        bf16: whether the forward pass runs in bfloat16.
        threads: CPU threads of this process.
        changeable: keys of the configuration that may differ from the checkpoint's.
    """

    config: TrainingConfig
    architecture: Architecture[Any]
    training_data: str
    make_task: Callable[[DistributedContext], Task]
    limit: TimeLimit | None
    bf16: bool
    threads: int
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME

    def run(self, context: DistributedContext, callback: Callback, checkpoint: Path | None) -> None:
        """Train in this process, from a checkpoint if there is one.

        Raises:
            UserError: the checkpoint belongs to another configuration, or the loss is not finite.
        """
        config = self.config
        torch.set_num_threads(self.threads)
        torch.manual_seed(config.seed)
        network = build_network(self.architecture, weights=config.network.weights)
        plan = TrainerConfig(
            epochs=config.epochs,
            seed=config.seed,
            optimizer=config.optimizer,
            validation=config.validation,
            limit=self.limit,
            bf16=self.bf16,
        )
        fit(
            self.make_task(context),
            network,
            plan,
            callback,
            context=context,
            settings=resume_settings(config, self.training_data, changeable=self.changeable),
            checkpoint=checkpoint,
        )


def resume_settings(
    config: TrainingConfig,
    training_data: str,
    *,
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME,
) -> Metrics:
    """Return what must be the same where a training goes on from a checkpoint.

    Args:
        config: that it trains under.
        training_data: fingerprint of the images and what is known of them.
        changeable: keys of the configuration that may differ.
    """
    return settings_of(config, without=changeable) | {"training data": training_data}


def run_train_job(job: TrainJob, events: Queue | None) -> None:
    """Train as one of the processes of a Ray Train run, from its last checkpoint if it has one.

    Args:
        job: what to train.
        events: where progress is told; Ray alone hears of it where there is none.

    Raises:
        UserError: the checkpoint belongs to another configuration, or the loss is not finite.
        TrainingBugError: the program failed.
        Exception: a connection, a machine or the storage failed; Ray Train starts again.
    """
    try:
        _run_train_job(job, events)
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(".")[0]
        raise UserError(f"{reason}: use smaller batches, or smaller crops") from error
    except Exception as error:
        bug = bug_behind(error)
        if bug is None:
            raise
        raise bug from error


def _run_train_job(job: TrainJob, events: Queue | None) -> None:
    ray_context = ray.train.get_context()
    context = DistributedContext(
        rank=ray_context.get_world_rank(),
        world_size=ray_context.get_world_size(),
        device=get_device(),
    )
    checkpoint = ray.train.get_checkpoint()
    callback = RayCallback(events, context)
    with checkpoint.as_directory() if checkpoint else nullcontext() as folder:
        job.run(context, callback, Path(folder) if folder else None)


class RayCallback:
    """Tells the driver how training goes, and Ray where the checkpoints are."""

    def __init__(self, events: Queue | None, context: DistributedContext) -> None:
        self._events, self._context = events, context

    def begin(self, records: list[Metrics]) -> None:
        """Tell of the epochs already done."""
        self._tell(records)

    def step(self, progress: StepProgress) -> None:
        """Tell of progress within an epoch."""
        self._tell(progress)

    def epoch(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Tell of the epoch, and hand over its checkpoint."""
        if not self._context.is_main:
            ray.train.report({})
            return
        self._tell(record)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))

    def _tell(self, event: list[Metrics] | StepProgress | Metrics) -> None:
        if self._events is not None:
            self._events.put(event)
