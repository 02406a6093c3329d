"""Time the search of a gallery, and the reading of its embeddings."""

import io
import time
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from reidray.inference.distributed.prediction_rows import pack_embeddings
from reidray.inference.distributed.task_runner import TaskRunner
from reidray.inference.planning.measured_costs import FREE, Cost
from reidray.retrieval.candidate_reranking import joint_sets, rerank_candidates
from reidray.retrieval.neighbours import Neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch
from reidray.retrieval.reranking import Reranking
from reidray.scoring.stages.gallery_search import MEMORY_MB
from reidray.scoring.stages.query_blocks import MAX_QUERIES
from reidray.scoring.store.part_file import read_embeddings
from reidray.scoring.store.stored_images import StoreContents

REPEATS = 4
"""Measurements of a search, after one that does not count."""

QUERIES_ON_CPU = 512
IMAGES_ON_CPU = 16_384
IMAGES_ON_GPU = 131_072
"""Images of a gallery that a measurement searches, a shard on a GPU."""

RERANKED_TOGETHER = 8
"""Queries of one measurement of a re-ranking."""

SPREAD = 4
"""Images of noise for each candidate of a query."""

READ_ROWS = 8192
"""Embeddings that a measurement reads."""


@dataclass(frozen=True)
class TimedSearch:
    """Describe the search that is timed, in embeddings of noise.

    Attributes:
        num_queries: number of queries of a night.
        k: number of images for each query.
        embedding_size: numbers in an embedding.
        metric: distance between embeddings.
        device: device that searches.
        rerank: number of gallery images that are re-ranked for each query; 0 for none.
    """

    num_queries: int
    k: int
    embedding_size: int
    metric: str
    device: str
    rerank: int = 0


@dataclass(frozen=True)
class SearchCosts:
    """Hold what the search of a gallery costs.

    Attributes:
        compare: seconds for a query and an image of the gallery.
        read: seconds to read an embedding of the gallery.
        reads_store: whether `read` was measured in the store of the run; else in memory.
        rerank: seconds to re-rank the candidates of a query.
    """

    compare: Cost
    read: Cost
    reads_store: bool
    rerank: Cost = FREE


def measure_search(
    runner: TaskRunner, search: TimedSearch, contents: StoreContents, num_tasks: int
) -> SearchCosts:
    """Return what a search costs, measured by several tasks at the same time.

    Args:
        runner: runs a call for each task.
        search: the search.
        contents: the store, whose embeddings are read if it has any.
        num_tasks: number of tasks; one where a GPU searches.
    """
    if search.device == "cuda":
        compare = Cost.of(runner.fetch(runner.call(_time_search, search, on_gpu=True)))
    else:
        compare = Cost.of(chain(*runner.run(_time_search, [search] * num_tasks)))
    rerank = FREE
    if search.rerank:
        rerank = Cost.of(chain(*runner.run(_time_reranking, [search] * num_tasks)))
    stored = _time_store(contents)
    in_memory = _time_reading(search.embedding_size)
    return SearchCosts(compare, Cost.of(stored or in_memory), bool(stored), rerank)


def _time_search(search: TimedSearch) -> list[tuple[float, float]]:
    """Return the seconds and the compared pairs of each measurement."""
    on_gpu = search.device == "cuda"
    most = MAX_QUERIES if on_gpu else QUERIES_ON_CPU
    rng, size = np.random.default_rng(0), search.embedding_size
    query = rng.standard_normal((min(search.num_queries, most), size), np.float32)
    gallery = rng.standard_normal((IMAGES_ON_GPU if on_gpu else IMAGES_ON_CPU, size), np.float32)
    searching = PartitionedSearch(
        query, search.k, search.metric, MEMORY_MB, torch.device(search.device)
    )
    best, found = searching.update(searching.empty(), gallery, 0), []
    for repeat in range(1, REPEATS + 1):
        start = time.perf_counter()
        best = searching.update(best, gallery, repeat * len(gallery))
        found.append((time.perf_counter() - start, float(len(query) * len(gallery))))
    return found


def _time_reranking(search: TimedSearch) -> list[tuple[float, float]]:
    """Return the seconds and the queries of each re-ranking of a few queries."""
    rng, size, count = np.random.default_rng(0), search.embedding_size, search.rerank
    queries = rng.standard_normal((max(2 * RERANKED_TOGETHER, count), size), np.float32)
    gallery = rng.standard_normal((SPREAD * count, size), np.float32)
    few = queries[:RERANKED_TOGETHER]

    def nearest(images: NDArray[np.float32], k: int) -> Neighbours:
        searching = PartitionedSearch(few, k, search.metric, MEMORY_MB)
        return searching.update(searching.empty(), images, 0)

    candidates, others = nearest(gallery, count), nearest(queries, count + 1)
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        sets = joint_sets(np.arange(len(few)), candidates, others, count, len(gallery))
        rerank_candidates(
            sets,
            queries[sets.queries],
            gallery[sets.gallery],
            search.k,
            settings=Reranking(),
            metric=search.metric,
        )
        found.append((time.perf_counter() - start, float(len(few))))
    return found[1:]


def _time_store(contents: StoreContents) -> list[tuple[float, float]]:
    """Return the seconds and the rows of the reading of some embeddings in a store."""

    def read_group(file: pa.NativeFile) -> int:
        opened = pq.ParquetFile(file)
        return len(opened.read_row_group(0, columns=["embedding"], use_threads=False))

    parts, found = contents.embedded_parts(), []
    for number in parts[:: -(-len(parts) // REPEATS) or 1]:
        start = time.perf_counter()
        num_rows = contents.storage.read(contents.parts[number], read_group)
        found.append((time.perf_counter() - start, float(num_rows)))
    return found


def _time_reading(size: int) -> list[tuple[float, float]]:
    """Return the seconds and the rows of the reading of embeddings in memory."""
    values = np.random.default_rng(0).standard_normal((READ_ROWS, size), np.float32)
    column = pack_embeddings(values, np.arange(READ_ROWS), READ_ROWS)
    file = io.BytesIO()
    pq.write_table(pa.table({"embedding": column}), file)
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        read_embeddings(pq.ParquetFile(file).read(use_threads=False))
        found.append((time.perf_counter() - start, float(READ_ROWS)))
    return found
