"""The one training loop: plain PyTorch, alone or under DDP, for any task. No Ray."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reidray.config import OptimizerConfig, ValidationConfig
from reidray.errors import UserError
from reidray.training.ahead import made_ahead
from reidray.training.checkpoint import TrainingState, copy_weights
from reidray.training.clock import Clock, TimeLimit
from reidray.training.optimizers import build_optimizer, learning_rate
from reidray.training.place import Place

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


class Reporter(Protocol):
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
class LoopPlan:
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
    plan: LoopPlan,
    reporter: Reporter,
    *,
    place: Place = Place(),
    settings: Metrics | None = None,
    checkpoint: Path | None = None,
) -> TrainingState:
    """Train a network until its epochs, its time or its patience end.

    Args:
        task: what is learned.
        network: trained in place, on `place.device`.
        plan: how long and how.
        reporter: hears of each epoch and keeps its checkpoint.
        place: this process among its peers; the process group exists where there are several.
        settings: the configuration, kept in checkpoints to refuse another one.
        checkpoint: folder to go on from.

    Returns:
        The state at the end; `best_weights` are those of the best epoch.

    Raises:
        UserError: the checkpoint belongs to another configuration, the loss, the weights or every
            validation figure are not finite, or the limit leaves no time for a step.
    """
    return _Training(task, network, plan, reporter, place, settings or {}, checkpoint).run()


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
        plan: LoopPlan,
        reporter: Reporter,
        place: Place,
        settings: Metrics,
        checkpoint: Path | None,
    ) -> None:
        self.task, self.plan, self.reporter, self.place = task, plan, reporter, place
        self.network = network.to(place.device)
        self.state = TrainingState(network, build_optimizer(plan.optimizer, network), settings)
        if checkpoint is not None:
            self.state.restore(checkpoint)
        self.progress: StepProgress | None = None
        self.parallel: nn.Module = network
        if place.world_size > 1:
            on_gpu = place.device.type == "cuda"
            self.parallel = DistributedDataParallel(
                network, device_ids=[place.device] if on_gpu else None
            )
        total_steps = plan.epochs * task.steps_per_epoch
        self.clock = Clock(
            total_steps,
            first_step=self.state.standing.step,
            limit=plan.limit,
            validation_images=task.validation_images,
            place=place,
        )

    def run(self) -> TrainingState:
        """Epoch after epoch until nothing is left to do."""
        standing = self.state.standing
        late = not standing.finished and self.clock.progress(standing.step) >= 1
        if late and not standing.step:
            raise self.clock.nothing_trained()
        # A training that is resumed without time for a step ends with the epochs it has.
        last_record = standing.records.pop() if late else None
        if self.place.leads:
            self.reporter.begin(standing.records)
        if last_record is not None:
            self._end_epoch(last_record)
        while not standing.finished:
            record = self._epoch()
            standing.epoch += 1
            self._end_epoch({"epoch": standing.epoch, "step": standing.step, **record})
        if self._goodness(standing.best) == -inf:
            raise UserError(
                f"no validation gave a finite {self.plan.validation.select_by}: "
                "lower --optimizer.learning-rate or use --precision fp32"
            )
        return self.state

    def _end_epoch(self, record: Metrics) -> None:
        """Judge the network where it is due, and tell of the epoch."""
        standing, validation = self.state.standing, self.plan.validation
        last = self.clock.progress(standing.step) >= 1 or "epoch_share" in record
        judged = validation.select_by in record
        if not judged and (last or standing.epoch % validation.every == 0):
            record |= self._validate(record)
            last = self.clock.progress(standing.step) >= 1 or last
        standing.finished = last or 0 < validation.patience <= standing.stale
        standing.records.append(record)
        self.reporter.epoch(record, self.state.save)

    def _epoch(self) -> Metrics:
        """One pass over the training images, or what time allows of it, a step at least."""
        self.parallel.train()
        standing = self.state.standing
        torch.manual_seed(_seed_of(self.plan.seed, standing.epoch, self.place.rank))
        tally, last_report = _EpochTally(), 0.0
        with closing(made_ahead(self.task.batches(standing.epoch))) as batches:
            while (done := self.clock.progress(standing.step)) < 1 or not tally.steps:
                asked = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                waited = time.perf_counter() - asked
                losses = self._step(batch, done)
                images = self.task.batch_size(batch)
                tally.add(losses, images * self.place.world_size, waited)
                self.clock.count_step(time.perf_counter() - asked, images)
                standing.step += 1
                if self.place.leads and tally.seconds - last_report > 1:
                    last_report = tally.seconds
                    self._report_step(tally, done)
        share = tally.steps / self.task.steps_per_epoch
        part = {"epoch_share": share} if share < 1 else {}
        return {"learning_rate": self._set_learning_rate(done), **part, **tally.record()}

    def _step(self, batch: Any, done: float) -> dict[str, Tensor]:
        """Forward, backward and one step of the optimiser."""
        self._set_learning_rate(done)
        self.state.optimizer.zero_grad(set_to_none=True)
        bf16 = torch.autocast(self.place.device.type, torch.bfloat16)
        with bf16 if self.plan.bf16 else nullcontext():
            losses = self.task.losses(self.parallel, batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(
                f"the loss is {total.item()} at step {self.state.standing.step + 1}: "
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
        by_steps = pace * (self.clock.total_steps - self.state.standing.step)
        progress = StepProgress(
            epoch=self.state.standing.epoch + 1,
            epoch_done=tally.steps / self.task.steps_per_epoch,
            done=done,
            images_per_second=tally.images / tally.seconds,
            seconds_left=min(by_steps, self.clock.seconds_left()),
            loss=tally.losses()["loss"],
        )
        self.progress = progress
        self.reporter.step(progress)

    def _validate(self, record: Metrics) -> Metrics:
        """Judge the network after an epoch; where it is the best so far, keep its weights."""
        start = time.perf_counter()
        if self.progress is not None:
            self.reporter.step(replace(self.progress, validating=True))
        self.network.eval()
        self._check_weights()
        metrics = self.place.from_leader(self.task.validate(self.network))
        standing = self.state.standing
        if not standing.best or self._goodness(metrics) > self._goodness(standing.best):
            reached = {key: record[key] for key in ("step", "epoch_share") if key in record}
            standing.best, standing.best_epoch, standing.stale = (
                metrics | reached,
                standing.epoch,
                0,
            )
            self.state.best_weights = copy_weights(self.network)
        else:
            standing.stale += 1
        self.clock.validation_seconds = self.place.from_leader(time.perf_counter() - start)
        return metrics | {"validation_seconds": self.clock.validation_seconds}

    def _goodness(self, metrics: Metrics) -> float:
        """Return how good the figures of a validation are; -inf where theirs is not finite."""
        validation = self.plan.validation
        value = float(metrics[validation.select_by])
        return validation.goodness(value) if isfinite(value) else -inf

    def _check_weights(self) -> None:
        """Refuse weights that a last step made infinite or NaN, which no loss has shown."""
        for name, values in self.network.state_dict().items():
            if not torch.isfinite(values).all():
                raise UserError(
                    f"weights {name} are not finite after step {self.state.standing.step}: "
                    "lower --optimizer.learning-rate or use --precision fp32"
                )


def _seed_of(*numbers: int) -> int:
    """One seed made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def settings_of(config: Any, *, without: tuple[str, ...]) -> Metrics:
    """A configuration as plain values, less what may change when a training is resumed."""
    return {key: value for key, value in asdict(config).items() if key not in without}
