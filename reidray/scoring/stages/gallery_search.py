"""Search the gallery shard by shard, where its embeddings lie, and merge the results in a tree."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.inference.prediction_loop import lacks_memory
from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch
from reidray.scoring.stages.located_images import (
    LocatedShard,
    ShardRows,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages

QUERIES_IN_BLOCK = 16_384
"""Queries that are searched together; a gallery is read once for each block of them."""

RUNS_PER_TASK = 4
"""Tasks of a search for each call that runs at a time, so that the last ones end together."""

MEMORY_MB = 512
"""Working memory of a search."""

log = logging.getLogger("reidray")


@dataclass(frozen=True)
class SearchSettings:
    """Hold how a gallery is searched.

    Attributes:
        k: number of gallery images for each query.
        metric: distance between embeddings.
        device: device that searches, `cpu` or `cuda`; the result does not depend on it.
    """

    k: int
    metric: str
    device: str


@dataclass(frozen=True)
class QueryBlock:
    """Name queries that are searched together, those that do not decode included.

    Attributes:
        located: the shard of the queries.
        start: first query in the shard.
        stop: end of the queries in the shard.
    """

    located: LocatedShard
    start: int
    stop: int

    @property
    def file(self) -> str:
        """Return the working file of the lines of the block."""
        return f"ranking/{self.located.shard.number:06d}-{self.start:06d}.txt"

    def read_rows(self, images: NightlyImages) -> ShardRows:
        """Return where the queries are that decode."""
        return read_rows_of(images, self.located, slice(self.start, self.stop))


def query_blocks(queries: Sequence[LocatedShard], size: int = QUERIES_IN_BLOCK) -> list[QueryBlock]:
    """Return the blocks of all queries, in the order of their paths.

    Args:
        queries: the shards of the queries.
        size: number of queries in a block.
    """
    return [
        QueryBlock(located, start, min(start + size, located.num_images))
        for located in queries
        for start in range(0, located.num_images, size)
    ]


def read_queries(runner: TaskRunner, images: Shared, block: QueryBlock) -> Shared:
    """Return (Q, D) float32 embeddings of the queries of a block that decode."""
    return runner.collect(_read_embeddings, [block], images, merge=_only)


def search_gallery(
    runner: TaskRunner,
    images: Shared,
    gallery: Sequence[LocatedShard],
    query: Shared,
    settings: SearchSettings,
    keep: Shared,
) -> Shared:
    """Return the `Neighbours` of queries in the gallery, with positions in its listing.

    Args:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        gallery: the shards of the gallery.
        query: (Q, D) float32 embeddings, shared.
        settings: how the gallery is searched.
        keep: (G,) bool, whether each image of the listing is ranked; None for all; shared.
    """
    length = max(1, -(-len(gallery) // (RUNS_PER_TASK * runner.parallelism)))
    if runner.parallelism == 1:
        length = len(gallery)
    runs = [gallery[start : start + length] for start in range(0, len(gallery), length)]
    return runner.collect(
        _search_run,
        runs,
        images,
        query,
        runner.share(settings),
        keep,
        merge=partial(merge_neighbours, k=settings.k),
        on_gpu=settings.device == "cuda",
    )


def _only(results: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    (result,) = results
    return result


def _read_embeddings(block: QueryBlock, images: NightlyImages) -> NDArray[np.float32]:
    rows = block.read_rows(images)
    return read_predictions_of(images, rows, ["embedding"]).embeddings


def _search_run(
    run: Sequence[LocatedShard],
    images: NightlyImages,
    query: NDArray[np.float32],
    settings: SearchSettings,
    keep: NDArray[np.bool_] | None,
) -> Neighbours:
    """Return the neighbours of queries in some shards; the CPU searches if the GPU has no room."""

    def search(device: str) -> Neighbours:
        searching = PartitionedSearch(
            query, settings.k, settings.metric, MEMORY_MB, torch.device(device)
        )
        best = searching.empty()
        for located in run:
            rows = read_rows_of(images, located)
            if keep is not None:
                rows = rows.select(keep[rows.positions])
            embeddings = read_predictions_of(images, rows, ["embedding"]).embeddings
            best = searching.update(best, embeddings, rows.positions)
        return best

    try:
        return search(settings.device)
    except RuntimeError as error:
        if settings.device == "cpu" or not lacks_memory(error):
            raise
    log.warning("ranking: the GPU has too little free memory; the CPU ranks instead")
    return search("cpu")
