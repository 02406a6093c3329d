"""Divide queries into blocks that are searched together, and expand them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.inference.distributed.prediction_rows import pack_embeddings
from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.retrieval.neighbours import Neighbours
from reidray.retrieval.query_expansion import expand_from_neighbours
from reidray.scoring.stages.located_images import (
    LocatedShard,
    ShardRows,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.store.part_file import read_embeddings

MAX_QUERIES = 16_384
"""Queries that are searched together; the gallery is read once for each block of them."""

MAX_CANDIDATE_BYTES = 2**29
"""Bytes of the features of the candidates of a block, which are in memory together."""


@dataclass(frozen=True)
class QueryBlock:
    """Name queries that are searched together, those that do not decode included.

    Attributes:
        located: the shard of the queries.
        start: first query in the shard.
        stop: end of the queries in the shard.
        expanded: whether the features of the queries are those of `expand_queries`.
    """

    located: LocatedShard
    start: int
    stop: int
    expanded: bool = False

    @property
    def name(self) -> str:
        """Return a name of the block for its working files."""
        return f"{self.located.shard.number:06d}-{self.start:06d}"

    @property
    def file(self) -> str:
        """Return the working file of the lines of the block."""
        return f"ranking/{self.name}.txt"

    def read_rows(self, images: NightlyImages) -> ShardRows:
        """Return where the queries are that decode."""
        return read_rows_of(images, self.located, slice(self.start, self.stop))

    def read_features(self, images: NightlyImages) -> NDArray[np.float32]:
        """Return (M, D) float32 features of the M queries that decode."""
        if self.expanded:
            return read_embeddings(images.read_table(f"expanded/{self.name}.parquet"))
        return read_predictions_of(images, self.read_rows(images), ["embedding"]).embeddings


def query_blocks(queries: Sequence[LocatedShard], size: int) -> list[QueryBlock]:
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


def queries_in_block(num_candidates: int, embedding_size: int) -> int:
    """Return the number of queries of a block, whose candidates fit into memory together.

    >>> queries_in_block(0, 512), queries_in_block(100, 512)
    (16384, 2621)

    Args:
        num_candidates: gallery images of each query whose features are read; 0 for none.
        embedding_size: numbers in a feature.
    """
    fitting = MAX_CANDIDATE_BYTES // (4 * embedding_size * max(1, num_candidates))
    return max(1, min(MAX_QUERIES, fitting))


def read_queries(runner: TaskRunner, images: Shared, block: QueryBlock) -> Shared:
    """Return the (M, D) float32 features of the queries of a block that decode."""
    return runner.call(_read_features, block, images)


def expand_block(
    runner: TaskRunner,
    images: Shared,
    block: QueryBlock,
    query: Shared,
    nearest: Shared,
    features: Shared,
) -> QueryBlock:
    """Return a block whose queries are moved towards their nearest gallery images.

    Args:
        runner: runs the task.
        images: the `NightlyImages`, shared.
        block: the block.
        query: (M, D) features of its queries, shared.
        nearest: their `Neighbours` by cosine in the gallery, shared.
        features: the `GalleryFeatures` of these, shared.
    """
    runner.fetch(runner.call(_expand, block, images, query, nearest, features))
    return replace(block, expanded=True)


@dataclass(frozen=True, eq=False)
class GalleryFeatures:
    """Hold the features of some gallery images.

    Attributes:
        positions: (U,) int64 ascending, positions of the images in the listing.
        features: (U, D) float32.
    """

    positions: NDArray[np.int64]
    features: NDArray[np.float32]

    def rows_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of images by their positions; -1 for -1."""
        rows = np.searchsorted(self.positions, positions)
        return np.where(positions < 0, -1, rows)


def _read_features(block: QueryBlock, images: NightlyImages) -> NDArray[np.float32]:
    return block.read_features(images)


def _expand(
    block: QueryBlock,
    images: NightlyImages,
    query: NDArray[np.float32],
    nearest: Neighbours,
    gallery: GalleryFeatures,
) -> str:
    """Write the expanded features of a block into a working file, and return its name."""
    expanded = query
    if len(query):
        rows = gallery.rows_of(nearest.indices)
        expanded = expand_from_neighbours(query, gallery.features, rows)
    packed = pack_embeddings(expanded, np.arange(len(expanded)), len(expanded))
    return images.write_table(f"expanded/{block.name}.parquet", pa.table({"embedding": packed}))
