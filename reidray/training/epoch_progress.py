"""Measure the progress within an epoch of a training."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepProgress:
    """Hold the progress within an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        epoch_done: share of the epoch that is done, in 0..1.
        done: share of the whole training that is done, in 0..1.
        images_per_second: images of all processes per second.
        seconds_left: estimated seconds until the end of the training.
        loss: mean loss of the epoch so far.
        validating: whether the steps of the epoch are done and its validation begins.
    """

    epoch: int
    epoch_done: float
    done: float
    images_per_second: float
    seconds_left: float
    loss: float
    validating: bool = False


class EpochStatistics:
    """Accumulate the images, the losses and the waiting time of one epoch."""

    def __init__(self) -> None:
        self.images = self.steps = 0
        self.wait_seconds = 0.0
        self._losses: dict[str, Tensor] = {}
        self._start = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: int, wait_seconds: float) -> None:
        """Add a step."""
        self.images += images
        self.steps += 1
        self.wait_seconds += wait_seconds
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, torch.zeros(())) + value.detach().cpu()

    @property
    def seconds(self) -> float:
        """Return the seconds since the epoch began."""
        return time.perf_counter() - self._start

    def mean_losses(self) -> dict[str, float]:
        """Return the mean of each loss so far, and their sum as `loss`."""
        means = {f"loss_{name}": float(v) / self.steps for name, v in self._losses.items()}
        return {"loss": sum(means.values()), **means}

    def record(self) -> dict[str, Any]:
        """Return the losses and timings of the epoch."""
        return {
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
            "input_wait": self.wait_seconds / self.seconds,
            **self.mean_losses(),
        }
