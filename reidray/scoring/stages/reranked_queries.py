"""Re-rank the nearest gallery images of queries by k-reciprocal neighbours, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.retrieval.candidate_reranking import joint_sets, rerank_candidates
from reidray.retrieval.neighbours import Neighbours
from reidray.retrieval.reranking import Reranking
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import GalleryFeatures, QueryBlock

QUERIES_IN_TASK = 256
"""Queries that a task re-ranks."""


@dataclass(frozen=True)
class RerankSettings:
    """Hold how queries are re-ranked.

    Attributes:
        count: number of gallery images to re-rank for each query.
        gallery_size: number of images in the ranked gallery.
        k: number of gallery images for each query in the result.
        metric: distance between embeddings.
        max_distance: largest distance of a gallery image; None for any.
    """

    count: int
    gallery_size: int
    k: int
    metric: str
    max_distance: float | None


def rerank_block(
    runner: TaskRunner,
    images: Shared,
    blocks: Sequence[QueryBlock],
    block: QueryBlock,
    nearest: Shared,
    others: Shared,
    features: Shared,
    settings: RerankSettings,
) -> Shared:
    """Return the best gallery images of the queries of a block, (M, k) int64 positions or -1.

    Args:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        blocks: the blocks of all queries.
        block: the block, M queries of which decode.
        nearest: the `Neighbours` of its queries in the gallery, shared.
        others: their `Neighbours` among all queries, themselves included, shared.
        features: the `GalleryFeatures` of the neighbours in the gallery, shared.
        settings: how the queries are re-ranked.
    """
    ranges = [
        slice(start, start + QUERIES_IN_TASK)
        for start in range(0, block.stop - block.start, QUERIES_IN_TASK)
    ]
    return runner.collect(
        _rerank_range,
        ranges,
        images,
        tuple(blocks),
        block,
        nearest,
        others,
        features,
        settings,
        merge=_join,
    )


def _join(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    width = max(part.shape[1] for part in parts)
    padded = [
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in parts
    ]
    return np.concatenate(padded)


def _rerank_range(
    queries: slice,
    images: NightlyImages,
    blocks: tuple[QueryBlock, ...],
    block: QueryBlock,
    nearest: Neighbours,
    others: Neighbours,
    features: GalleryFeatures,
    settings: RerankSettings,
) -> NDArray[np.int64]:
    """Return the best gallery images of a range of the queries that decode, (B, k) int64."""
    positions = block.read_rows(images).positions[queries]
    if not len(positions):
        return np.zeros((0, 0), np.int64)
    sets = joint_sets(
        positions,
        nearest.rows(queries),
        others.rows(queries),
        settings.count,
        settings.gallery_size,
    )
    _, best = rerank_candidates(
        sets,
        _read_queries(images, blocks, sets.queries),
        features.features[features.rows_of(sets.gallery)],
        settings.k,
        settings=Reranking(),
        metric=settings.metric,
        max_distance=settings.max_distance,
    )
    return best


def _read_queries(
    images: NightlyImages, blocks: Sequence[QueryBlock], positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the features of queries by their positions, which are ascending."""
    found = []
    for block in blocks:
        first = images.shard(block.located.shard).first
        start, stop = np.searchsorted(positions, [first + block.start, first + block.stop])
        if start < stop:
            rows = np.searchsorted(block.read_rows(images).positions, positions[start:stop])
            found.append(block.read_features(images)[rows])
    return np.concatenate(found)
