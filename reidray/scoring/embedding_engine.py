"""Choose the engine that embeds the images of a nightly run."""

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
from reidray.scoring.run_timing import StageTimer

MAX_IN_PROCESS = 512
"""Largest number of images that this process embeds sooner than a cluster starts."""


class EmbedBatches(Protocol):
    """Describe the functions that embed."""

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
    without_gpu = starts_ray and not torch.cuda.is_available()
    on_cpu = config.use_gpu == "no" or (config.use_gpu == "auto" and without_gpu)
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
