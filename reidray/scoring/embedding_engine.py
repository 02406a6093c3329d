"""Choose the engine that embeds the images of a nightly run, and measure its throughput."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from reidray.config.scoring import ScoreConfig
from reidray.inference.image_batches import BatchPredictions, Digests, ImageBatch
from reidray.inference.local_engine import embed_in_process
from reidray.models import LoadedModel
from reidray.scoring.stage_timer import StageTimer

MAX_IN_PROCESS = 512
"""Largest number of images that this process embeds sooner than a cluster starts."""


class EmbedBatches(Protocol):
    """Type of the functions that embed."""

    def __call__(
        self, model: LoadedModel, batches: Sequence[ImageBatch], known: Digests | None
    ) -> Iterator[list[BatchPredictions]]:
        """Yield the predictions of a model for batches, but for images of known digests."""
        ...


@dataclass(frozen=True)
class EmbeddingEngine:
    """Hold an engine that embeds.

    Attributes:
        num_workers: number of Ray actors; 0 where this process embeds.
        embed: yields the predictions for batches.
    """

    num_workers: int
    embed: EmbedBatches


@contextmanager
def open_engine(
    num_images: int,
    config: ScoreConfig,
    session: AbstractContextManager[None],
    timer: StageTimer,
    *,
    starts_ray: bool,
) -> Iterator[EmbeddingEngine]:
    """Open the engine that embeds a number of images soonest: this process, or Ray actors.

    A GPU gives other last digits than a CPU. So Ray embeds where there may be a GPU.

    Args:
        num_images: number of images to embed.
        config: the nightly run.
        session: connection to Ray, which is opened only where Ray embeds.
        timer: records the start and the stop of Ray.
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Raises:
        UserError: the cluster cannot place the actors.
    """
    on_cpu = config.use_gpu == "no" or (starts_ray and not torch.cuda.is_available())
    if num_images <= MAX_IN_PROCESS and on_cpu and config.num_workers is None:
        yield EmbeddingEngine(0, embed_in_process)
        return
    from reidray.inference.ray_engine import embed_with_ray, plan_pool  # imports Ray

    with session:
        pool = plan_pool(config.num_workers, config.use_gpu)
        timer.end_stage("ray start")
        embed = partial(embed_with_ray, pool=pool, stall_minutes=config.stall_timeout)
        yield EmbeddingEngine(pool.num_actors, embed)
    timer.end_stage("ray stop")


class Throughput:
    """Measure images per second."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._num_images = [0]
        self._seconds = [0.0]

    def add(self, num_images: int) -> None:
        """Count images that are done now."""
        self._num_images.append(self._num_images[-1] + num_images)
        self._seconds.append(time.perf_counter() - self._start)

    def summary(self) -> dict[str, float]:
        """Return the images per second of all the time, and of the second half of the counts.

        In the second half every process has started. There are no rates before the first `add`.
        """
        if len(self._num_images) == 1:
            return {}
        rates = {"images_per_second": round(self._num_images[-1] / self._seconds[-1], 1)}
        half = len(self._num_images) // 2
        if half < len(self._num_images) - 1:
            images = self._num_images[-1] - self._num_images[half]
            seconds = self._seconds[-1] - self._seconds[half]
            rates["images_per_second_steady"] = round(images / seconds, 1)
        return rates
