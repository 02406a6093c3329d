"""What embeds the images of a night that its store does not know: a cluster, or this process."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from reidray.config.scoring import ScoreConfig
from reidray.inference.embedder import embed_in_process
from reidray.inference.image_batches import BatchPredictions, ImageSet
from reidray.models import LoadedModel
from reidray.scoring.incremental_update import IncrementalUpdate
from reidray.scoring.stage_timer import StageTimer

FEW_IMAGES = 512
"""So many are embedded here before a cluster has started."""


@dataclass(frozen=True)
class EmbeddingPass:
    """How the embedding of a night went.

    Attributes:
        workers: processes of a cluster that embedded; 0 where it was done here, or nothing was.
        pace: images per second, over all, and of the second half, when all that waits has begun.
    """

    workers: int = 0
    pace: dict[str, float] = field(default_factory=dict)


def embed_missing(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    increment: IncrementalUpdate,
    config: ScoreConfig,
    session: AbstractContextManager[None],
    starts_ray: bool,
    watch: StageTimer,
) -> EmbeddingPass:
    """Embed what the store does not know: on the cluster, or here where that is sooner.

    A GPU gives other last digits than a CPU: so where there may be one, it embeds everything.

    Raises:
        UserError: the cluster cannot place the workers.
    """
    missing = increment.missing
    images = sum(map(len, missing))
    if not images:
        return EmbeddingPass()
    on_cpu = config.use_gpu == "no" or (starts_ray and not torch.cuda.is_available())
    if images <= FEW_IMAGES and on_cpu and config.num_workers is None:
        pace = _take_all(embed_in_process(model, sets, missing, increment.known()), increment)
        watch.lap("embed")
        return EmbeddingPass(pace=pace)
    from reidray.inference.ray_engine import embed_images, plan_pool  # imports Ray

    with session:
        pool = plan_pool(config.num_workers, config.use_gpu)
        watch.lap("ray start")
        blocks = embed_images(model, sets, missing, pool, increment.known(), config.stall_timeout)
        pace = _take_all(blocks, increment)
        watch.lap("embed")
    watch.lap("ray stop")
    return EmbeddingPass(pool.workers, pace)


def _take_all(
    blocks: Iterator[list[BatchPredictions]], increment: IncrementalUpdate
) -> dict[str, float]:
    """Keep every batch; returns images per second, over all and of the second half."""
    begun = time.perf_counter()
    images, done = [0], [0.0]
    for batches in blocks:
        for batch in batches:
            increment.take(batch)
        images.append(images[-1] + sum(len(batch.rows) for batch in batches))
        done.append(time.perf_counter() - begun)
    pace = {"images_per_second": round(images[-1] / done[-1], 1)}
    half = len(images) // 2
    if half < len(images) - 1:
        steady = (images[-1] - images[half]) / (done[-1] - done[half])
        pace["images_per_second_steady"] = round(steady, 1)
    return pace
