"""The one training loop: plain PyTorch, alone or under DDP, for any task. No Ray."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reidray.config import OptimizerConfig, ValidationConfig
from reidray.errors import UserError
from reidray.training.checkpoint import TrainingSnapshot, copy_weights
from reidray.training.distributed_context import DistributedContext
from reidray.training.optimizers import build_optimizer, learning_rate
from reidray.training.prefetch import prefetch
from reidray.training.time_budget import TimeBudget, TimeLimit

Metrics = dict[str, Any]


class Task(Protocol):
    """What is learned: it makes batches, turns one into losses, and judges a network."""

    steps_per_epoch: int
    validation_images: int

    def batches(self, epoch: int) -> Iterator[Any]:
        """This process's share of each global batch of an epoch, from 0, on its device."""

    def batch_size(self, batch: Any) -> int:
        """Images in this process's share of a batch."""

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The weighted losses, () float32 each; their sum is minimised."""

    def validate(self, network: nn.Module) -> Metrics:
        """Figures on images that are not trained on; every process takes part, rank 0's count."""


class Callback(Protocol):
    """Who hears of a training's progress."""

    def begin(self, records: list[Metrics]) -> None:
        """Once, on rank 0, with the figures of the epochs that a checkpoint had behind it."""

    def step(self, progress: "StepProgress") -> None:
        """Now and then within an epoch, and before it is judged, on rank 0."""

    def epoch(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """After each epoch, on every rank; `save` writes the checkpoint, which rank 0 keeps."""


@dataclass(frozen=True)
class StepProgress:
    """How an epoch goes.

    Attributes:
        epoch: from 1.
        epoch_done: share of the epoch, in 0..1.
        done: share of the whole training, in 0..1.
        images_per_second: of all processes.
        seconds_left: until the end of the training at this pace.
        loss: mean of the epoch so far.
        validating: whether the epoch has been trained and is judged.
    """

    epoch: int
    epoch_done: float
    done: float
    images_per_second: float
    seconds_left: float
    loss: float
    validating: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and how a network is trained.

    Attributes:
        epochs: at most so many.
        seed: of what the network itself draws, such as dropout; anew for each epoch and rank, so
            that a resumed training goes on as if it had not been stopped.
        limit: of the job's time; None sets none. The learning rate then falls by whichever ends
            first, the epochs or the time.
        bf16: whether the forward pass runs in bfloat16.
    """

    epochs: int
    seed: int
    optimizer: OptimizerConfig
    validation: ValidationConfig
    limit: TimeLimit | None = None
    bf16: bool = False


def fit(
    task: Task,
    network: nn.Module,
    plan: TrainerConfig,
    callback: Callback,
    *,
    context: DistributedContext = DistributedContext(),
    settings: Metrics | None = None,
    checkpoint: Path | None = None,
) -> TrainingSnapshot:
    """Train a network until its epochs, its time or its patience end.

    Args:
        task: what is learned.
        network: trained in place, on `context.device`.
        plan: how long and how.
        callback: hears of each epoch and keeps its checkpoint.
        context: this process among its peers; the process group exists where there are several.
        settings: the configuration, kept in checkpoints to refuse another one.
        checkpoint: folder to go on from.

    Returns:
        The state at the end; `best_weights` are those of the best epoch.

    Raises:
        UserError: the checkpoint belongs to another configuration, the loss, the weights or every
            validation figure are not finite, or the limit leaves no time for a step.
    """
    return _Training(task, network, plan, callback, context, settings or {}, checkpoint).run()


class _EpochTally:
    """What one epoch cost and the mean of its losses."""

    def __init__(self) -> None:
        self.images = self.steps = 0
        self.waited = 0.0
        self._losses: dict[str, Tensor] = {}
        self._start = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: int, waited: float) -> None:
        """Count a step."""
        self.images += images
        self.steps += 1
        self.waited += waited
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, torch.zeros(())) + value.detach().cpu()

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._start

    def losses(self) -> dict[str, float]:
        """Means so far, with their sum as `loss`."""
        means = {f"loss_{name}": float(v) / self.steps for name, v in self._losses.items()}
        return {"loss": sum(means.values()), **means}

    def record(self) -> Metrics:
        """The epoch's row of figures."""
        return {
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
            "input_wait": self.waited / self.seconds,
            **self.losses(),
        }


class _Training:
    """One call of `fit`."""

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        plan: TrainerConfig,
        callback: Callback,
        context: DistributedContext,
        settings: Metrics,
        checkpoint: Path | None,
    ) -> None:
        self.task, self.plan, self.callback, self.context = task, plan, callback, context
        self.network = network.to(context.device)
        self.state = TrainingSnapshot(network, build_optimizer(plan.optimizer, network), settings)
        if checkpoint is not None:
            self.state.restore(checkpoint)
        self.progress: StepProgress | None = None
        self.parallel: nn.Module = network
        if context.world_size > 1:
            on_gpu = context.device.type == "cuda"
            self.parallel = DistributedDataParallel(
                network, device_ids=[context.device] if on_gpu else None
            )
        total_steps = plan.epochs * task.steps_per_epoch
        self.budget = TimeBudget(
            total_steps,
            first_step=self.state.trainer_state.step,
            limit=plan.limit,
            validation_images=task.validation_images,
            context=context,
        )

    def run(self) -> TrainingSnapshot:
        """Epoch after epoch until nothing is left to do."""
        state = self.state.trainer_state
        late = not state.finished and self.budget.progress(state.step) >= 1
        if late and not state.step:
            raise self.budget.nothing_trained()
        # A training that is resumed without time for a step ends with the epochs it has.
        last_record = state.records.pop() if late else None
        if self.context.is_main:
            self.callback.begin(state.records)
        if last_record is not None:
            self._end_epoch(last_record)
        while not state.finished:
            record = self._epoch()
            state.epoch += 1
            self._end_epoch({"epoch": state.epoch, "step": state.step, **record})
        select_by = self.plan.validation.select_by
        if not isfinite(state.best[select_by]):
            raise UserError(
                f"no validation gave a finite {select_by}: "
                "lower --optimizer.learning-rate or use --precision fp32"
            )
        return self.state

    def _end_epoch(self, record: Metrics) -> None:
        """Judge the network where it is due, and tell of the epoch."""
        state, validation = self.state.trainer_state, self.plan.validation
        last = self.budget.progress(state.step) >= 1 or "epoch_share" in record
        judged = validation.select_by in record
        if not judged and (last or state.epoch % validation.every == 0):
            record |= self._validate(record)
            last = self.budget.progress(state.step) >= 1 or last
        state.finished = last or 0 < validation.patience <= state.evals_without_improvement
        state.records.append(record)
        self.callback.epoch(record, self.state.save)

    def _epoch(self) -> Metrics:
        """One pass over the training images, or what time allows of it, a step at least."""
        self.parallel.train()
        state = self.state.trainer_state
        torch.manual_seed(_seed_of(self.plan.seed, state.epoch, self.context.rank))
        tally, last_report = _EpochTally(), 0.0
        with closing(prefetch(self.task.batches(state.epoch))) as batches:
            while (done := self.budget.progress(state.step)) < 1 or not tally.steps:
                asked = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                waited = time.perf_counter() - asked
                losses = self._step(batch, done)
                images = self.task.batch_size(batch)
                tally.add(losses, images * self.context.world_size, waited)
                self.budget.count_step(time.perf_counter() - asked, images)
                state.step += 1
                if self.context.is_main and tally.seconds - last_report > 1:
                    last_report = tally.seconds
                    self._report_step(tally, done)
        share = tally.steps / self.task.steps_per_epoch
        part = {"epoch_share": share} if share < 1 else {}
        return {"learning_rate": self._set_learning_rate(done), **part, **tally.record()}

    def _step(self, batch: Any, done: float) -> dict[str, Tensor]:
        """Forward, backward and one step of the optimiser."""
        self._set_learning_rate(done)
        self.state.optimizer.zero_grad(set_to_none=True)
        bf16 = torch.autocast(self.context.device.type, torch.bfloat16)
        with bf16 if self.plan.bf16 else nullcontext():
            losses = self.task.losses(self.parallel, batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(
                f"the loss is {total.item()} at step {self.state.trainer_state.step + 1}: "
                "lower --optimizer.learning-rate or use --precision fp32"
            )
        total.backward()  # type: ignore[no-untyped-call]
        self.state.optimizer.step()
        return losses

    def _set_learning_rate(self, done: float) -> float:
        rate = learning_rate(self.plan.optimizer, min(done, 1.0))
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _report_step(self, tally: _EpochTally, done: float) -> None:
        pace = tally.seconds / tally.steps
        by_steps = pace * (self.budget.total_steps - self.state.trainer_state.step)
        progress = StepProgress(
            epoch=self.state.trainer_state.epoch + 1,
            epoch_done=tally.steps / self.task.steps_per_epoch,
            done=done,
            images_per_second=tally.images / tally.seconds,
            seconds_left=min(by_steps, self.budget.seconds_left()),
            loss=tally.losses()["loss"],
        )
        self.progress = progress
        self.callback.step(progress)

    def _validate(self, record: Metrics) -> Metrics:
        """Judge the network after an epoch; where it is the best so far, keep its weights."""
        start = time.perf_counter()
        if self.progress is not None:
            self.callback.step(replace(self.progress, validating=True))
        self.network.eval()
        self._check_weights()
        metrics = self.context.broadcast(self.task.validate(self.network))
        state = self.state.trainer_state
        validation = self.plan.validation
        select_by = validation.select_by
        if not state.best or validation.is_better(metrics[select_by], state.best[select_by]):
            reached = {key: record[key] for key in ("step", "epoch_share") if key in record}
            state.best, state.best_epoch, state.evals_without_improvement = (
                metrics | reached,
                state.epoch,
                0,
            )
            self.state.best_weights = copy_weights(self.network)
        else:
            state.evals_without_improvement += 1
        self.budget.validation_seconds = self.context.broadcast(time.perf_counter() - start)
        return metrics | {"validation_seconds": self.budget.validation_seconds}

    def _check_weights(self) -> None:
        """Refuse weights that a last step made infinite or NaN, which no loss has shown."""
        for name, values in self.network.state_dict().items():
            if not torch.isfinite(values).all():
                raise UserError(
                    f"weights {name} are not finite after step {self.state.trainer_state.step}: "
                    "lower --optimizer.learning-rate or use --precision fp32"
                )


def _seed_of(*numbers: int) -> int:
    """One seed made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def settings_of(config: Any, *, without: tuple[str, ...]) -> Metrics:
    """A configuration as plain values, less what may change when a training is resumed."""
    return {key: value for key, value in asdict(config).items() if key not in without}
