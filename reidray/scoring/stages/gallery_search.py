"""Search the gallery shard by shard, where its embeddings lie, and merge the results in a tree."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.inference.prediction_loop import lacks_memory
from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch
from reidray.scoring.kept_rankings.matched_images import MatchedShard
from reidray.scoring.stages.located_images import (
    LocatedShard,
    ShardRows,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import GalleryFeatures, QueryBlock

RUNS_PER_CALL = 4
"""Tasks of a search for each call that runs at a time, so that the last ones end together."""

MEMORY_MB = 512
"""Working memory of a search."""

log = logging.getLogger("reidray")

Part = LocatedShard | MatchedShard | QueryBlock
"""Images that are searched: a shard of the gallery, those that are new in it, or a block of
queries."""


SomePart = TypeVar("SomePart", bound=Part)


@dataclass(frozen=True)
class SearchSettings:
    """Hold how images are searched.

    Attributes:
        k: number of images for each query.
        metric: distance between embeddings.
        device: device that searches, `cpu` or `cuda`; the result does not depend on it.
    """

    k: int
    metric: str
    device: str


def search_images(
    runner: TaskRunner,
    images: Shared,
    parts: Sequence[Part],
    query: Shared,
    settings: SearchSettings,
) -> Shared:
    """Return the `Neighbours` of queries in a listing, by the positions of the images in it.

    Args:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        parts: the images to search, in the order of the listing.
        query: (Q, D) float32 embeddings, shared.
        settings: how they are searched.
    """
    return runner.collect(
        search_parts,
        split_parts(runner, parts),
        images,
        query,
        settings,
        merge=partial(merge_neighbours, k=settings.k),
        on_gpu=settings.device == "cuda",
    )


def read_features_of(
    runner: TaskRunner, images: Shared, gallery: Sequence[LocatedShard], nearest: Shared
) -> Shared:
    """Return the `GalleryFeatures` of all images that some `Neighbours` name.

    Args:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        gallery: the shards of the gallery.
        nearest: the neighbours, shared.
    """
    return runner.collect(
        _read_run, split_parts(runner, gallery), images, nearest, merge=_merge_features
    )


def count_calls(runner: TaskRunner) -> int:
    """Return the number of calls that a search is divided into, if there is enough to search."""
    return 1 if runner.parallelism == 1 else RUNS_PER_CALL * runner.parallelism


def split_parts(runner: TaskRunner, parts: Sequence[SomePart]) -> list[Sequence[SomePart]]:
    """Return runs of parts that follow each other, one for each call of a search."""
    length = max(1, -(-len(parts) // count_calls(runner)))
    return [parts[start : start + length] for start in range(0, len(parts), length)]


def search_parts(
    parts: Sequence[Part],
    images: NightlyImages,
    query: NDArray[np.float32],
    settings: SearchSettings,
) -> Neighbours:
    """Return the neighbours of queries in some parts; the CPU searches if the GPU has no room."""
    if not len(query):
        return Neighbours.empty(0)

    def search(device: str) -> Neighbours:
        searching = PartitionedSearch(
            query, settings.k, settings.metric, MEMORY_MB, torch.device(device)
        )
        best = searching.empty()
        for part in parts:
            positions, features = _read_part(part, images)
            best = searching.update(best, features, positions)
        return best

    try:
        return search(settings.device)
    except RuntimeError as error:
        if settings.device == "cpu" or not lacks_memory(error):
            raise
    log.warning("ranking: the GPU has too little free memory; the CPU ranks instead")
    return search("cpu")


def _read_part(part: Part, images: NightlyImages) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the positions and features of the images of a part that decode and are ranked."""
    if isinstance(part, QueryBlock):
        return part.read_rows(images).positions, part.read_features(images)
    rows = part.read_rows(images) if isinstance(part, MatchedShard) else read_rows_of(images, part)
    return rows.positions, read_predictions_of(images, rows, ["embedding"]).embeddings


def iter_rows_among(
    shards: Sequence[LocatedShard], images: NightlyImages, nearest: Neighbours
) -> Iterator[ShardRows]:
    """Yield for each shard where its images are that are among some neighbours."""
    wanted = np.unique(nearest.indices)
    for located in shards:
        rows = read_rows_of(images, located)
        yield rows.select(np.isin(rows.positions, wanted, assume_unique=True))


def _read_run(
    run: Sequence[LocatedShard], images: NightlyImages, nearest: Neighbours
) -> GalleryFeatures:
    """Return the features of the images of some shards that are among the neighbours."""
    found = []
    for rows in iter_rows_among(run, images, nearest):
        features = read_predictions_of(images, rows, ["embedding"]).embeddings
        found.append(GalleryFeatures(rows.positions, features))
    return _merge_features(found)


def _merge_features(parts: Sequence[GalleryFeatures]) -> GalleryFeatures:
    """Return the features of several parts, in the order of the positions."""
    positions = np.concatenate([part.positions for part in parts])
    return GalleryFeatures(positions, np.concatenate([part.features for part in parts]))
