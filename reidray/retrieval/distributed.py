"""Search a gallery that is larger than one machine, on a Ray cluster.

A task searches each block of a Ray Data set, or each run of pieces of files, where it lies, and
sends only the k nearest images. Ray Data places the tasks, limits them and restarts lost ones.
Other tasks merge in a tree what they found, while the search goes on. The driver holds references,
and reads the last result alone.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus
from reidray.retrieval.array_inputs import (
    Array,
    InvalidRowError,
    check_at_least,
    check_choice,
    check_count,
    check_distance,
    check_features,
)
from reidray.retrieval.arrow_features import FeatureFile, Paths, check_column, open_files
from reidray.retrieval.distances import DISTANCE_METRICS
from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch

TASKS_PER_CPU = 8
FAN_IN = 8
"""Results that a task merges."""
QUERIES_AT_ONCE = 4096
"""Queries that a task merges together, which bounds its memory beyond results."""

RUN_SCHEMA = pa.schema({"file": pa.int64(), "piece": pa.int64()})
RESULT_SCHEMA = pa.schema(
    {
        "images": pa.int64(),
        "keys": pa.large_binary(),
        "indices": pa.large_binary(),
        "error": pa.string(),
        "bad_row": pa.int64(),
    }
)


def top_k(
    query: Array,
    gallery: ray.data.Dataset | Paths,
    k: int,
    *,
    column: str = "embedding",
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k nearest images of each query in a gallery on a Ray cluster, nearest first.

    The result has the same bits as that of `retrieval.top_k` over the whole gallery, for any split.
    Each task uses one CPU and searches a block, or several Parquet row groups or Arrow record
    batches. All machines of the cluster must see files under the same paths. Ray is connected.

    Args:
        query: (Q, D) float32 or float16; NumPy or PyTorch.
        gallery: A Ray Data set; or Parquet or Arrow IPC (Feather) files, or folders of them, whose
            files are read in the order of their names. The index of an image is that of its row.
        k: Number of images; the whole gallery where it exceeds its size.
        column: Column of the gallery that holds features: lists of D numbers, or tensors.
        metric: "euclidean", "cosine" or "l1".
        max_distance: Largest distance of an image; infinity and the index -1 replace images beyond
            it.
        memory_mb: Working memory of each task in megabytes, beyond queries, result and what is read
            in one: a block, or a record batch.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64.

    Raises:
        ValueError: An argument is not as described; the message names it, and the row of the
            gallery.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    queries, _, _ = check_features(query, query)
    search = PartitionedSearch(queries.float().cpu().numpy(), int(k), metric, memory_mb)
    if isinstance(gallery, ray.data.Dataset):
        results = _search_dataset(gallery, column, ray.put(search))
    elif not isinstance(gallery, str | os.PathLike | Sequence):
        raise ValueError(
            f"`gallery` is a {type(gallery).__name__}: expected a Ray Data set or paths; "
            "arrays are for reidray.retrieval.top_k"
        )
    else:
        results = _search_files(gallery, column, ray.put(search))
    tree = _MergeTree(len(queries), search.k)
    for result in _in_order(results):
        tree.add(result)
        if tree.has_failed():
            break  # the first error of the gallery is in the results so far
    return _read_result(tree.result(), len(queries)).to_distances(metric, max_distance)


def _search_dataset(
    gallery: ray.data.Dataset, column: str, search: "ray.ObjectRef[PartitionedSearch]"
) -> ray.data.Dataset:
    """Search each block of a data set."""
    columns = gallery.columns(fetch_if_missing=False)
    if columns is not None:
        check_column(column, columns)
        gallery = gallery.select_columns([column])
    return _map_blocks(gallery, _search_block, column=column, search=search)


def _search_files(
    paths: Paths, column: str, search: "ray.ObjectRef[PartitionedSearch]"
) -> ray.data.Dataset:
    """Search each run of pieces of files, in several runs for each CPU."""
    files = open_files(paths, column)
    pieces = [
        {"file": number, "piece": piece}
        for number, file in enumerate(files)
        for piece in range(file.pieces)
    ]
    plan = pa.Table.from_pylist(pieces, schema=RUN_SCHEMA)
    length = max(1, -(-len(plan) // max(1, cluster_cpus() * TASKS_PER_CPU)))
    runs = [plan.slice(start, length) for start in range(0, max(1, len(plan)), length)]
    dataset = ray.data.from_arrow(runs)
    return _map_blocks(dataset, _search_run, files=ray.put(files), search=search)


def _map_blocks(dataset: ray.data.Dataset, function: Any, **arguments: Any) -> ray.data.Dataset:
    return dataset.map_batches(
        function, fn_kwargs=arguments, batch_size=None, batch_format="pyarrow", num_cpus=1
    )


def _in_order(results: ray.data.Dataset) -> "Iterator[ray.ObjectRef[pa.Table]]":
    """Yield the blocks of results in the order of the gallery, and restore the caller's context."""
    options = results.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        for bundle in results.iter_internal_ref_bundles():
            yield from (entry.ref for entry in bundle.blocks)
    finally:
        options.preserve_order = before


def _search_block(
    block: pa.Table, column: str, search: "ray.ObjectRef[PartitionedSearch]"
) -> pa.Table:
    def arrays() -> Iterator[pa.Array]:
        if len(block):
            check_column(column, block.column_names)
            yield from block[column].chunks

    return _run_search(arrays(), ray.get(search))


def _search_run(
    run: pa.Table,
    files: "ray.ObjectRef[list[FeatureFile]]",
    search: "ray.ObjectRef[PartitionedSearch]",
) -> pa.Table:
    opened, settings = ray.get(files), ray.get(search)

    def arrays() -> Iterator[pa.Array]:
        for number, rows in groupby(run.to_pylist(), key=itemgetter("file")):
            pieces = [row["piece"] for row in rows]
            yield from opened[number].read(pieces, settings.batch_size)

    return _run_search(arrays(), settings)


def _run_search(arrays: Iterator[pa.Array], search: PartitionedSearch) -> pa.Table:
    """Return the result of the images in arrays, or the error in them.

    Indices and rows count from the first array, because a task does not know what precedes it.
    """
    torch.set_num_threads(1)  # the task has one CPU; a process that Ray reuses may have set more
    try:
        best, images = search.search_arrays(arrays)
    except InvalidRowError as error:
        return _error(error.reason, error.row)
    except ValueError as error:
        return _error(str(error), None)
    return _result(best, images)


def _result(best: Neighbours, images: int) -> pa.Table:
    """Return a table of one row, with the neighbours in a part of the gallery of some images."""
    row = {
        "images": pa.array([images]),
        "keys": _one_value(best.keys),
        "indices": _one_value(best.indices),
        "error": pa.nulls(1, pa.string()),
        "bad_row": pa.nulls(1, pa.int64()),
    }
    return pa.table(row, schema=RESULT_SCHEMA)


def _error(reason: str, bad_row: int | None) -> pa.Table:
    """Return a table of one row with what is wrong in a part, and the row, or None for all."""
    row = {"images": 0, "keys": b"", "indices": b"", "error": reason, "bad_row": bad_row}
    return pa.Table.from_pylist([row], schema=RESULT_SCHEMA)


def _one_value(array: NDArray[np.generic]) -> pa.Array:
    """Return the bytes of an array as one value of a column, without a copy."""
    ends = pa.py_buffer(np.array([0, array.nbytes], np.int64))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, ends, pa.py_buffer(np.ascontiguousarray(array))]
    )


class _MergeTree:
    """Merge results in tasks, in the order of the gallery.

    Args:
        queries: Number of queries.
        k: Number of nearest images.
    """

    def __init__(self, queries: int, k: int) -> None:
        self._arguments = queries, k
        self._merge = ray.remote(num_cpus=1, num_returns=2)(_merge_results)
        # Those of a level precede those of the level before; each merges FAN_IN of that.
        self._levels: list[list[ray.ObjectRef[pa.Table]]] = [[]]
        self._errors: list[ray.ObjectRef[bool]] = []

    def add(self, result: "ray.ObjectRef[pa.Table]") -> None:
        """Add the results that come next in the gallery."""
        self._levels[0].append(result)
        level = 0
        while len(self._levels[level]) == FAN_IN:
            self._combine(level)
            level += 1

    def has_failed(self) -> bool:
        """Return whether a merge has met an error; it does not wait for those at work."""
        if not self._errors:
            return False
        done, self._errors = ray.wait(self._errors, num_returns=len(self._errors), timeout=0)
        return any(ray.get(done))

    def result(self) -> pa.Table:
        """Return the one result of the gallery."""
        level = 0
        while level == 0 or level + 1 < len(self._levels) or len(self._levels[level]) > 1:
            if self._levels[level] or len(self._levels) == 1:
                self._combine(level)
            level += 1
        table: pa.Table = ray.get(self._levels[level][0])
        return table

    def _combine(self, level: int) -> None:
        """Merge the results of a level into one of the next."""
        merged, is_error = self._merge.remote(*self._arguments, *self._levels[level])
        self._levels[level] = []
        self._errors.append(is_error)
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._levels[level + 1].append(merged)


def _merge_results(queries: int, k: int, *tables: pa.Table) -> tuple[pa.Table, bool]:
    """Return the result of the parts of tables together, and whether it is an error.

    Args:
        queries: Number of queries.
        k: Number of nearest images.
        *tables: Results, in the order of the gallery.
    """
    torch.set_num_threads(1)
    images, parts = 0, []
    for table in tables:
        for row in range(len(table)):
            result = {name: table[name][row] for name in table.column_names}
            if (reason := result["error"].as_py()) is not None:
                bad_row = result["bad_row"].as_py()
                return _error(reason, None if bad_row is None else images + bad_row), True
            parts.append((_neighbours(result, queries), images))
            images += result["images"].as_py()
    width = min(k, images)
    best = Neighbours(np.empty((queries, width)), np.empty((queries, width), np.int64))
    for top in range(0, queries, QUERIES_AT_ONCE):
        some = slice(top, top + QUERIES_AT_ONCE)
        found = [part.rows(some).shift(first) for part, first in parts]
        merged = merge_neighbours([Neighbours.empty(len(best.keys[some])), *found], k)
        best.keys[some], best.indices[some] = merged.keys, merged.indices
    return _result(best, images), False


def _neighbours(result: dict[str, pa.Scalar], queries: int) -> Neighbours:
    """Return the neighbours in a row of results, as views."""
    keys, indices = (result[name].as_buffer() for name in ("keys", "indices"))
    return Neighbours(
        np.frombuffer(keys, np.float64).reshape(queries, -1),
        np.frombuffer(indices, np.int64).reshape(queries, -1),
    )


def _read_result(table: pa.Table, queries: int) -> Neighbours:
    """Return the neighbours in the one result of a gallery.

    Raises:
        ValueError: A task met an error, or the gallery holds no images.
    """
    (row,) = table.select(["images", "error", "bad_row"]).to_pylist()
    if row["bad_row"] is not None:
        raise InvalidRowError("gallery", row["bad_row"], row["error"])
    if row["error"] is not None:
        raise ValueError(row["error"])
    if row["images"] == 0:
        raise ValueError("`gallery` holds no images: expected at least one")
    return _neighbours({name: table[name][0] for name in table.column_names}, queries)
