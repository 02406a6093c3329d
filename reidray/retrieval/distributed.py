"""Search a gallery that is larger than one machine, on a Ray cluster.

A task searches each block of a Ray Data set, or each run of pieces of files, where it lies, and
sends only the k nearest images. Ray Data places the tasks, limits them and restarts lost ones.
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
    best, images = search.empty(), 0
    for result in _in_order(results):
        best = merge_neighbours([best, _read_result(result, search, images)], search.k)
        images += result["images"]
    if images == 0:
        raise ValueError("`gallery` holds no images: expected at least one")
    return best.to_distances(metric, max_distance)


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


def _in_order(results: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """Yield the results in the order of the gallery, and restore the context of the caller."""
    options = results.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
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
    """Return one row: the number of images in arrays and the nearest, or the error in them.

    `keys` and `indices` are the bytes of `Neighbours`; `error` and `bad_row` are null without an
    error. Indices and rows count from the first array, because a task does not know what precedes
    it.
    """
    torch.set_num_threads(1)  # the task has one CPU; a process that Ray reuses may have set more
    best, images, reason, bad_row = search.empty(), 0, None, None
    try:
        best, images = search.search_arrays(arrays)
    except InvalidRowError as error:
        reason, bad_row = error.reason, error.row
    except ValueError as error:
        reason = str(error)
    result = {
        "images": images,
        "keys": best.keys.tobytes(),
        "indices": best.indices.tobytes(),
        "error": reason,
        "bad_row": bad_row,
    }
    return pa.Table.from_pylist([result], schema=RESULT_SCHEMA)


def _read_result(result: dict[str, Any], search: PartitionedSearch, first: int) -> Neighbours:
    """Return the neighbours in the part of the gallery that begins at `first`.

    Raises:
        ValueError: The task met an error.
    """
    if result["bad_row"] is not None:
        raise InvalidRowError("gallery", first + result["bad_row"], result["error"])
    if result["error"] is not None:
        raise ValueError(result["error"])
    shape = len(search.query), -1
    keys: NDArray[np.float64] = np.frombuffer(result["keys"]).reshape(shape)
    indices: NDArray[np.int64] = np.frombuffer(result["indices"], np.int64).reshape(shape)
    return Neighbours(keys, indices).shift(first)
