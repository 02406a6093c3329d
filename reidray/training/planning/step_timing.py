"""Time the steps of a training on crops of noise, with the resources of a worker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.data.images.crops import Allocate, CropGroup, Indices, allocate_array
from reidray.data.images.decoding import BadImage
from reidray.inference.planning.measured_costs import Cost, peak_memory
from reidray.training.execution.train_job import TrainJob, naming_memory
from reidray.training.short_training import train_shortly

REPEATS = 3
"""Measurements of some steps, after one that does not count."""

SECONDS = 3.0
"""Seconds of a measurement, if that is not less than `LEAST_STEPS`."""

LEAST_STEPS = 2
MOST_STEPS = 100
NOISE_CROPS = 64

SLOW_RATE = 1e-6
"""Learning rate of the steps, with which a loss on noise stays finite."""


@dataclass(frozen=True)
class NoiseCrops:
    """Stand for the crops of a training, each of which is one of a few images of noise.

    Attributes:
        size: height and width of a crop in pixels.
        has_masks: whether each crop has a mask.
        decoded: mask of the images that decode, which nobody reads.
        bad: the images that do not decode: none.
    """

    size: tuple[int, int]
    has_masks: bool
    decoded: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    bad: tuple[BadImage, ...] = ()

    def open(self) -> "NoiseReader":
        """Return a reader of the crops."""
        return NoiseReader(self.size, has_masks=self.has_masks)

    def sample(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of a few batches of indices."""
        return self.open().read(batches)


class NoiseReader:
    """Read crops of noise, as a `CropReader`, for any index."""

    def __init__(self, size: tuple[int, int], *, has_masks: bool) -> None:
        rng = np.random.default_rng(0)
        self._crops = rng.integers(0, 256, (NOISE_CROPS, *size, 3), np.uint8)
        self._masks = self._crops[..., 0] >> 7 if has_masks else None

    def read(
        self, batches: Sequence[Indices], allocate: Allocate = allocate_array
    ) -> Iterator[CropGroup]:
        """Yield a copy of the crops of each batch of indices, in the order of the batches."""
        for indices in batches:
            places = indices % NOISE_CROPS
            crops = allocate((len(indices), *self._crops.shape[1:]))
            np.take(self._crops, places, axis=0, out=crops)
            masks = None
            if self._masks is not None:
                masks = allocate((len(indices), *self._masks.shape[1:]))
                np.take(self._masks, places, axis=0, out=masks)
            yield CropGroup(indices, crops, masks)


@dataclass(frozen=True)
class StepTiming:
    """Hold the time of the steps of a worker.

    Attributes:
        step: seconds of a step.
        input_wait: share of its time in which the network waited for a batch.
        peak_bytes: largest memory of the process so far.
        gpu_bytes: largest memory that PyTorch took of the GPU; 0 without one.
    """

    step: Cost
    input_wait: float
    peak_bytes: int
    gpu_bytes: int


def time_steps(job: TrainJob, images: int, use_gpu: bool) -> StepTiming:
    """Time steps of one worker, after some that do not count.

    Args:
        job: the training.
        images: images in a batch of the worker.
        use_gpu: whether the worker has a GPU.

    Raises:
        UserError: the batch does not fit into the memory of the GPU.
    """
    optimizer = replace(job.config.optimizer, learning_rate=SLOW_RATE)
    job = replace(job, config=replace(job.config, optimizer=optimizer))
    device = torch.device("cuda" if use_gpu else "cpu")
    with naming_memory():
        (tried,) = train_shortly(job, images, device, steps=LEAST_STEPS)
        fitting = int(SECONDS * LEAST_STEPS / tried["seconds"])
        steps = min(max(fitting, LEAST_STEPS), MOST_STEPS)
        _, *records = train_shortly(job, images, device, steps=steps, epochs=1 + REPEATS)
    return StepTiming(
        Cost.of((record["seconds"], steps) for record in records),
        float(np.mean([record["input_wait"] for record in records])),
        peak_memory(),
        torch.cuda.max_memory_reserved() if use_gpu else 0,
    )
