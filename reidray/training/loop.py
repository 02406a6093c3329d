"""Train a network on any task: one loop in plain PyTorch, alone or under DDP, without Ray."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from reidray.config import ValidationConfig
from reidray.data.prefetch import prefetch
from reidray.errors import UserError
from reidray.training.checkpoint import TrainingSnapshot, copy_weights
from reidray.training.distributed_context import DistributedContext
from reidray.training.steps.averaged_network import AveragedNetwork
from reidray.training.steps.epoch_progress import EpochStatistics, StepProgress
from reidray.training.steps.optimizers import build_optimizer, learning_rate
from reidray.training.steps.step_runner import StepConfig, StepRunner
from reidray.training.steps.training_step import check_weights
from reidray.training.time_budget import TimeBudget, TimeLimit

Metrics = dict[str, Any]


class Task(Protocol):
    """Make batches, compute their losses, and validate a network.

    Attributes:
        steps_per_epoch: number of batches in an epoch.
        validation_images: number of images that `validate` runs the network on.
    """

    steps_per_epoch: int
    validation_images: int

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield this process's share of each global batch of an epoch, from 0, on its device."""

    def batch_size(self, batch: Any) -> int:
        """Return the number of images in this process's share of a batch."""

    def prepare(self, network: nn.Module) -> None:
        """Give a network the weights that the losses train beside its own."""

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Return the weighted losses, () float32 each; the loop minimises their sum."""

    def training_metrics(self) -> Metrics:
        """Return metrics on the batches since the last call, the same on every rank."""

    def validate(self, network: nn.Module) -> Metrics:
        """Return metrics on the validation images, on every rank; the loop uses those of rank 0."""


class Callback(Protocol):
    """Receive the progress of a training."""

    def on_train_start(self, records: list[Metrics]) -> None:
        """Receive the records of the epochs that a checkpoint holds. Called once, on rank 0."""

    def on_progress(self, progress: StepProgress) -> None:
        """Receive the progress within an epoch and before its validation. Called on rank 0."""

    def on_epoch_end(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Receive the record of an epoch, and a function that writes its checkpoint to a folder.

        Called on every rank; rank 0 keeps the checkpoint.
        """


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(StepConfig):
    """Set the length, the optimiser and the precision of a training.

    Attributes:
        epochs: maximum number of epochs.
        seed: seed of dropout and other random numbers. Each epoch and rank derives its own seed,
            so that a resumed training continues as if it had not stopped.
        validation: interval of the validations, and the metric that selects the best epoch.
        limit: time limit of the job, or None. The learning rate falls with epochs and time.
    """

    epochs: int
    seed: int
    validation: ValidationConfig
    limit: TimeLimit | None = None


def fit(
    task: Task,
    network: nn.Module,
    config: TrainerConfig,
    callback: Callback,
    *,
    context: DistributedContext = DistributedContext(),
    settings: Metrics | None = None,
    default_settings: Metrics | None = None,
    checkpoint: Path | None = None,
) -> TrainingSnapshot:
    """Train a network until its epochs, its time or its patience end.

    Args:
        task: batches, losses and validation.
        network: network to train in place, on `context.device`.
        config: length, optimiser and precision of the training.
        callback: receiver of the progress and of each epoch's checkpoint.
        context: this process; with several processes the default process group must exist.
        settings: configuration of the training, which a checkpoint keeps to refuse another one.
        default_settings: values of settings that a checkpoint of an earlier version lacks.
        checkpoint: folder of the checkpoint to resume from.

    Returns:
        The state at the end; its `best_weights` are the weights of the best epoch.

    Raises:
        UserError: the checkpoint belongs to another configuration, the network lacks what the
            optimiser needs, the loss, the weights or every validation metric are not finite, or
            the limit leaves no time for a step.
    """
    task.prepare(network)
    network.to(context.device)
    if context.device.type == "cuda":  # 16-bit convolutions would convert other layouts
        network.to(memory_format=torch.channels_last)
    decay = config.optimizer.ema_decay
    snapshot = TrainingSnapshot(
        network,
        build_optimizer(config.optimizer, network),
        settings or {},
        default_settings or {},
        average=None if decay is None else AveragedNetwork(network, decay),
    )
    if checkpoint is not None:
        snapshot.restore(checkpoint)
    return _Trainer(task, snapshot, config, callback, context).run()


class _Trainer:
    """Hold the state of one call of `fit`."""

    def __init__(
        self,
        task: Task,
        snapshot: TrainingSnapshot,
        config: TrainerConfig,
        callback: Callback,
        context: DistributedContext,
    ) -> None:
        self.task, self.config, self.callback, self.context = task, config, callback, context
        self.snapshot, self.state = snapshot, snapshot.trainer_state
        self.steps = StepRunner(task, snapshot.network, snapshot.optimizer, config, context)
        self.budget = TimeBudget(
            config.epochs * task.steps_per_epoch,
            first_step=self.state.step,
            done=self.state.done,
            limit=config.limit,
            validation_images=task.validation_images,
            context=context,
        )
        self.progress: StepProgress | None = None
        self.last_report = time.perf_counter()

    def run(self) -> TrainingSnapshot:
        """Train until the epochs, the time or the patience end."""
        state = self.state
        out_of_time = not state.finished and self.budget.progress(state.step) >= 1
        if out_of_time and not state.step:
            raise self.budget.too_short_error()
        # A training that is resumed without time for a step ends with the epochs it has.
        last_record = state.records.pop() if out_of_time else None
        if self.context.is_main:
            self.callback.on_train_start(state.records)
        if last_record is not None:
            self._end_epoch(last_record)
        while not state.finished:
            record = self._train_epoch()
            state.epoch += 1
            self._end_epoch({"epoch": state.epoch, "step": state.step, **record})
        select_by = self.config.validation.select_by
        if not isfinite(state.best[select_by]):
            raise UserError(
                f"no validation gave a finite {select_by}: "
                "lower `optimizer.learning_rate` or use `precision=fp32`"
            )
        return self.snapshot

    def _train_epoch(self) -> Metrics:
        """Train one epoch, or the part of it that the time limit allows, at least one step."""
        state, context = self.state, self.context
        self.steps.set_training_mode()
        torch.manual_seed(_derive_seed(self.config.seed, state.epoch, context.rank))
        statistics = EpochStatistics(
            context.device, first_step=state.step, world_size=context.world_size
        )
        self.last_report = time.perf_counter()
        upcoming = prefetch(self.task.batches(state.epoch), device=context.device)
        with closing(upcoming) as batches:
            while (done := self.budget.step_progress(state.step)) < 1 or not statistics.steps:
                wait_start = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                wait_seconds = time.perf_counter() - wait_start
                result = self.steps.run(batch, done)
                state.step += 1
                if self.snapshot.average is not None:
                    self.snapshot.average.update(state.step)
                statistics.add(result, self.task.batch_size(batch), wait_seconds)
                if self.steps.is_warm_up or statistics.is_read_due:
                    self._read_losses(statistics, done)
                    if time.perf_counter() - self.last_report > 1:
                        self._report_progress(statistics, done)
        statistics.read()
        self._report_progress(statistics, done)
        share = statistics.steps / self.task.steps_per_epoch
        partial_epoch = {"epoch_share": share} if share < 1 else {}
        return {
            "learning_rate": learning_rate(self.config.optimizer, min(done, 1.0)),
            **partial_epoch,
            **statistics.record(),
            **self.task.training_metrics(),
        }

    def _read_losses(self, statistics: EpochStatistics, done: float) -> None:
        """Wait for the steps so far, and count their time, but not that of a first step."""
        window = statistics.read()
        if not self.steps.is_warm_up:
            self.budget.count_steps(window)
        elif self.config.compile:
            statistics.exclude_warm_up()
            self.budget.exclude_warm_up(done)

    def _report_progress(self, statistics: EpochStatistics, done: float) -> None:
        """Report the progress within an epoch on rank 0."""
        if not self.context.is_main:
            return
        self.last_report = time.perf_counter()
        seconds_by_steps = (
            statistics.seconds / statistics.steps * (self.budget.total_steps - self.state.step)
        )
        self.progress = StepProgress(
            epoch=self.state.epoch + 1,
            epoch_done=statistics.steps / self.task.steps_per_epoch,
            done=min(done, 1.0),
            images=statistics.images,
            images_per_second=statistics.images_per_second(),
            input_wait=statistics.input_wait(),
            seconds_left=min(seconds_by_steps, self.budget.seconds_left()),
            loss=statistics.mean_losses()["loss"],
        )
        self.callback.on_progress(self.progress)

    def _end_epoch(self, record: Metrics) -> None:
        """Validate the network where a validation is due, and report the epoch."""
        state, validation = self.state, self.config.validation
        check_weights(self.snapshot.network, state.step)
        state.done = self.budget.progress(state.step)
        is_last = state.done >= 1 or "epoch_share" in record
        is_validated = validation.select_by in record
        if not is_validated and (is_last or state.epoch % validation.every == 0):
            record |= self._validate(record)
            state.done = self.budget.progress(state.step)
            is_last = state.done >= 1 or is_last
        out_of_patience = 0 < validation.patience <= state.evals_without_improvement
        state.finished = is_last or out_of_patience
        state.records.append(record)
        self.callback.on_epoch_end(record, self.snapshot.save)

    def _validate(self, record: Metrics) -> Metrics:
        """Validate the network after an epoch, and keep its weights if they are the best."""
        start = time.perf_counter()
        if self.progress is not None:
            self.callback.on_progress(replace(self.progress, validating=True))
        network = self.snapshot.evaluated_network
        network.eval()
        self.context.broadcast_statistics(network)
        metrics = self.context.broadcast(self.task.validate(network))
        state, validation = self.state, self.config.validation
        select_by = validation.select_by
        if not state.best or validation.is_better(metrics[select_by], state.best[select_by]):
            reached = {key: record[key] for key in ("step", "epoch_share") if key in record}
            state.best = metrics | reached
            state.best_epoch = state.epoch
            state.evals_without_improvement = 0
            self.snapshot.best_weights = copy_weights(network)
        else:
            state.evals_without_improvement += 1
        self.budget.validation_seconds = self.context.broadcast(time.perf_counter() - start)
        return metrics | {"validation_seconds": self.budget.validation_seconds}


def _derive_seed(*numbers: int) -> int:
    """Return one seed that depends on several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
