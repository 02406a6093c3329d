"""Measure the progress within an epoch of a training, without a wait for the device in a step."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reidray.errors import UserError
from reidray.training.steps.training_step import StepResult

READ_SECONDS = 1.0
"""Interval at which the losses are read from a GPU."""

READ_STEPS = 100
"""Largest number of steps between two reads, so that a loss that is not finite soon stops a
training."""


@dataclass(frozen=True)
class StepProgress:
    """Hold the progress within an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        epoch_done: share of the epoch that is done, in 0..1.
        done: share of the whole training that is done, in 0..1.
        images: images of all processes in the epoch so far.
        images_per_second: images of all processes per second.
        input_wait: share of the time of the epoch in which the network waited for images, in 0..1.
        seconds_left: estimated seconds until the end of the training.
        loss: mean loss of the epoch so far.
        validating: whether the steps of the epoch are done and its validation begins.
    """

    epoch: int
    epoch_done: float
    done: float
    images: int
    images_per_second: float
    input_wait: float
    seconds_left: float
    loss: float
    validating: bool = False


@dataclass(frozen=True)
class StepWindow:
    """Hold the duration of the steps between two reads, which wait for the device.

    Attributes:
        steps: number of steps.
        images: images of this process.
        seconds: seconds from read to read.
    """

    steps: int
    images: int
    seconds: float


class EpochStatistics:
    """Accumulate the images, the losses and the waiting time of one epoch.

    The losses stay on the device until `read`. The host runs ahead of a GPU, so only the time from
    one read to the next measures the speed of the GPU.

    Args:
        device: device of the losses. A read from a CPU costs nothing and is due after each step.
        first_step: number of steps of the training before the epoch.
        world_size: number of processes; all have the same number of images in a step.
    """

    def __init__(self, device: torch.device, *, first_step: int = 0, world_size: int = 1) -> None:
        self.images = self.steps = 0
        self.wait_seconds = 0.0
        self._read_steps = 1 if device.type == "cpu" else READ_STEPS
        self._first_step, self._world_size = first_step, world_size
        self._unread: list[StepResult] = []
        self._unread_images = 0
        self._sums: dict[str, np.float32] = {}
        self._start = self._last_read = time.perf_counter()
        self._warm_up_seconds = 0.0
        self._warm_up_images = 0

    def add(self, result: StepResult, images: int, wait_seconds: float) -> None:
        """Add a step on this process's `images`."""
        self.images += images * self._world_size
        self.steps += 1
        self.wait_seconds += wait_seconds
        self._unread.append(result)
        self._unread_images += images

    @property
    def seconds(self) -> float:
        """Return the seconds since the epoch began."""
        return time.perf_counter() - self._start

    @property
    def is_read_due(self) -> bool:
        """Return whether enough steps or time passed since the last read."""
        since = time.perf_counter() - self._last_read
        return len(self._unread) >= self._read_steps or since > READ_SECONDS

    def read(self) -> StepWindow:
        """Wait for the steps so far, and add their losses to the means.

        Returns:
            The duration of the steps since the last read.

        Raises:
            UserError: a loss or a gradient was not finite; the message names the first step.
        """
        if self._unread:
            rows = [_row(result) for result in self._unread]
            values = torch.cat(rows).cpu().numpy()
            ends = np.cumsum([len(row) for row in rows])
            first = self._first_step + self.steps - len(rows) + 1
            for step, (result, row) in enumerate(
                zip(self._unread, np.split(values, ends[:-1]), strict=True), start=first
            ):
                self._add_row(step, result, row)
        now = time.perf_counter()
        window = StepWindow(len(self._unread), self._unread_images, now - self._last_read)
        self._unread, self._unread_images, self._last_read = [], 0, now
        return window

    def exclude_warm_up(self) -> None:
        """Leave the images and the seconds so far out of `images_per_second`."""
        self._warm_up_seconds, self._warm_up_images = self.seconds, self.images

    def images_per_second(self) -> float:
        """Return the images per second of the steps that were read."""
        seconds, images = self._last_read - self._start, self.images
        if images > self._warm_up_images:
            seconds, images = seconds - self._warm_up_seconds, images - self._warm_up_images
        return images / seconds

    def input_wait(self) -> float:
        """Return the share of the time of the epoch in which the network waited for images."""
        return self.wait_seconds / self.seconds

    def mean_losses(self) -> dict[str, float]:
        """Return the mean of each loss that was read, and their sum as `loss`.

        Where gradients are clipped, `gradient_norm` is the mean of their norms before clipping.
        """
        means = {name: float(total) / self.steps for name, total in self._sums.items()}
        losses = [value for name, value in means.items() if name.startswith("loss_")]
        return {"loss": sum(losses), **means}

    def record(self) -> dict[str, Any]:
        """Return the losses and timings of the epoch, whose steps were read."""
        return {
            "seconds": self.seconds,
            "images_per_second": self.images_per_second(),
            "input_wait": self.input_wait(),
            **self.mean_losses(),
        }

    def _add_row(self, step: int, result: StepResult, row: np.ndarray[Any, Any]) -> None:
        losses = row[: len(result.names)]
        with np.errstate(over="ignore", invalid="ignore"):
            total = losses.sum()
        if not np.isfinite(total):
            raise _not_finite("loss", float(total), step)
        for name, value in zip(result.names, losses, strict=True):
            self._sums[f"loss_{name}"] = self._sums.get(f"loss_{name}", np.float32(0)) + value
        if result.gradient_norm is not None:
            if not np.isfinite(row[-1]):
                raise _not_finite("norm of the gradient", float(row[-1]), step)
            norms = self._sums.get("gradient_norm", np.float32(0))
            self._sums["gradient_norm"] = norms + row[-1]


def _row(result: StepResult) -> torch.Tensor:
    """Return the losses of a step, (L,) float32, and the norm of its gradient behind them."""
    norm = result.gradient_norm
    return result.losses if norm is None else torch.cat([result.losses, norm.float()[None]])


def _not_finite(name: str, value: float, step: int) -> UserError:
    return UserError(
        f"the {name} is {value} at step {step}: "
        "lower `optimizer.learning_rate` or use `precision=fp32`"
    )
