"""Time a worker that embeds, stage by stage, on a few batches of images."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.inference.device_buffers import download
from reidray.inference.distributed.task_runner import TaskRunner
from reidray.inference.image_batches import BATCH_SIZE, ImageBatch
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.planning.file_timing import FileTiming, time_files, until_time_is_up
from reidray.inference.planning.measured_costs import Cost, peak_memory
from reidray.inference.prediction_loop import PreparedNetwork, load_network
from reidray.models import Architecture
from reidray.retrieval.numerics import single_thread

REPEATS = 5
"""Measurements of a network on a GPU, after one that does not count."""

PASSES = 8
"""Forward passes of each measurement on a GPU."""


@dataclass(frozen=True)
class TimedNetwork:
    """Describe the network that a worker times.

    Attributes:
        architecture: description of the network.
        settings: precision, and use of mirror images.
        device: device of the network, `cpu` or `cuda`.
        weights: state dict of the network.
    """

    architecture: Architecture[Any]
    settings: InferenceSettings
    device: str
    weights: dict[str, torch.Tensor]

    def prepare(self) -> PreparedNetwork:
        """Return the network, ready on its device."""
        device = torch.device(self.device)
        return load_network(self.architecture, self.weights, self.settings, device)


@dataclass(frozen=True)
class WorkerTiming:
    """Hold the times of one worker.

    Attributes:
        files: time of the files of each batch.
        passes: seconds and crops of each measurement of the network.
        peak_bytes: largest memory of the process so far.
        seconds: seconds of all of it.
    """

    files: tuple[FileTiming, ...]
    passes: tuple[tuple[float, float], ...]
    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class EmbeddingCosts:
    """Hold what the stages of an embedding cost a worker.

    Attributes:
        read: seconds for the file of an image.
        decode: seconds to decode an image.
        predict: seconds of the network for a crop; a batch that is not full costs as much as a full
            one.
        num_images: number of images that were timed.
        num_bad: number of them that do not decode.
        bytes_per_image: mean size of a file.
        peak_bytes: largest memory of a worker.
        start_seconds: seconds in which the processes started and loaded the network.
    """

    read: Cost
    decode: Cost
    predict: Cost
    num_images: int
    num_bad: int
    bytes_per_image: float
    peak_bytes: int
    start_seconds: float


def measure_embedding(
    runner: TaskRunner, network: TimedNetwork, batches: Sequence[ImageBatch], num_workers: int
) -> EmbeddingCosts:
    """Return what an embedding costs, measured by several workers at the same time.

    On a CPU each worker reads, decodes and embeds its batches. For a GPU the workers read and
    decode on CPUs, and one more embeds crops of noise.

    Args:
        runner: runs a call for each worker.
        network: the network.
        batches: the images, none of them twice.
        num_workers: number of workers.
    """
    start = time.perf_counter()
    shared = runner.share(network)
    shares = [share for first in range(num_workers) if (share := batches[first::num_workers])]
    timings = list(runner.run(time_worker, shares, shared))
    passes = [each for timing in timings for each in timing.passes]
    measured = max(timing.seconds for timing in timings)
    if network.device != "cpu":
        on_gpu = runner.fetch(runner.call(time_network, shared, on_gpu=True))
        passes += on_gpu.passes
        measured += on_gpu.seconds
    files = [each for timing in timings for each in timing.files]
    num_images = sum(each.num_images for each in files)
    return EmbeddingCosts(
        read=Cost.of((each.read_seconds, each.num_images) for each in files),
        decode=Cost.of((each.decode_seconds, each.num_images) for each in files),
        predict=Cost.of(passes),
        num_images=num_images,
        num_bad=sum(each.num_bad for each in files),
        bytes_per_image=sum(each.num_bytes for each in files) / num_images,
        peak_bytes=max(timing.peak_bytes for timing in timings),
        start_seconds=max(0.0, time.perf_counter() - start - measured),
    )


def time_worker(batches: Sequence[ImageBatch], network: TimedNetwork) -> WorkerTiming:
    """Time the reading and decoding of batches, and the network on their crops if it is on a CPU.

    Args:
        batches: the images.
        network: the network.
    """
    size = network.architecture.size
    with single_thread():
        prepared = network.prepare() if network.device == "cpu" else None
        if prepared is not None:
            _time_passes(prepared, [np.zeros((BATCH_SIZE, *size, 3), np.uint8)])
        start, files, passes = time.perf_counter(), [], []
        for batch in until_time_is_up(batches):
            timing, decoded = time_files(batch.location, batch.paths, size)
            files.append(timing)
            if prepared is not None:
                passes.append((_time_passes(prepared, [decoded.crops]), float(BATCH_SIZE)))
        seconds = time.perf_counter() - start
    return WorkerTiming(tuple(files), tuple(passes), peak_memory(), seconds)


def time_network(network: TimedNetwork) -> WorkerTiming:
    """Time a network on a GPU, with crops of noise that fill its batches."""
    with single_thread():
        prepared = network.prepare()
        shape = (prepared.batch_size, *network.architecture.size, 3)
        crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        _time_passes(prepared, [crops] * PASSES)
        start = time.perf_counter()
        passes = tuple(
            (_time_passes(prepared, [crops] * PASSES), float(PASSES * len(crops)))
            for _ in range(REPEATS)
        )
        seconds = time.perf_counter() - start
    return WorkerTiming((), passes, peak_memory(), seconds)


def _time_passes(network: PreparedNetwork, batches: Iterable[NDArray[np.uint8]]) -> float:
    """Return the seconds in which a network embeds batches, and their predictions are copied."""
    start = time.perf_counter()
    for _ in download(network.predict([crops] for crops in batches)):
        pass
    return time.perf_counter() - start
