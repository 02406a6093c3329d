"""`top_k` over a gallery that is larger than one machine, on a Ray cluster.

Every block of a Ray Data set, and every run of pieces of some files, is ranked where it lies; only
its k best travel. Ray Data places these tasks, holds them back and starts lost ones again.
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
    read_features,
)
from reidray.retrieval.arrow_features import FeatureFile, Paths, check_column, open_files
from reidray.retrieval.distances import DISTANCE_METRICS
from reidray.retrieval.partitioned_search import Best, Search

TASKS_PER_CPU = 8

RUN_SCHEMA = pa.schema({"file": pa.int64(), "piece": pa.int64()})
ANSWER_SCHEMA = pa.schema(
    {
        "images": pa.int64(),
        "keys": pa.large_binary(),
        "indices": pa.large_binary(),
        "trouble": pa.string(),
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
    """The k nearest gallery images of each query, best first, with the gallery on a Ray cluster.

    The result is that of `retrieval.top_k` over the whole gallery, bit by bit, however the gallery
    is split. Each task asks for one CPU; a block, a Parquet row group or an Arrow record batch is
    ranked by one task. The cluster's machines must find files under the same paths.

    Args:
        query: (Q, D) float32 or float16; NumPy or PyTorch.
        gallery: a Ray Data set; or Parquet or Arrow IPC (Feather) files, or folders of them, whose
            files are taken in the order of their names. An image's index is its row's place.
        k: how many; more than the gallery holds gives all of it.
        column: the gallery's features, lists of D numbers or tensors.
        metric: "euclidean", "cosine" or "l1".
        max_distance: images farther than this are left out: in their place stand an infinite
            distance and the index -1.
        memory_mb: megabytes for each task to work in, beyond queries, result and what has to be
            read in one: a block, or a record batch.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64.

    Raises:
        ValueError: an argument is not as said here; the message names it, and the gallery's row.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    queries, _, _ = read_features(query, query)
    search = Search(queries.float().cpu().numpy(), int(k), metric, memory_mb)
    if isinstance(gallery, ray.data.Dataset):
        answers = _rank_dataset(gallery, column, ray.put(search))
    elif not isinstance(gallery, str | os.PathLike | Sequence):
        raise ValueError(
            f"gallery is a {type(gallery).__name__}: expected a Ray Data set or paths; "
            "arrays are for reidray.retrieval.top_k"
        )
    else:
        answers = _rank_files(gallery, column, ray.put(search))
    best, images = search.nothing(), 0
    for answer in _in_order(answers):
        best = search.merge([best, _read_answer(answer, search, images)])
        images += answer["images"]
    if images == 0:
        raise ValueError("gallery holds no images: expected at least one")
    return best.within(metric, max_distance)


def _rank_dataset(
    gallery: ray.data.Dataset, column: str, search: "ray.ObjectRef[Search]"
) -> ray.data.Dataset:
    """The answer of each block."""
    known = gallery.columns(fetch_if_missing=False)
    if known is not None:
        check_column(column, known)
        gallery = gallery.select_columns([column])
    return _mapped(gallery, _answer_for_block, column=column, search=search)


def _rank_files(paths: Paths, column: str, search: "ray.ObjectRef[Search]") -> ray.data.Dataset:
    """The answer of each run of pieces of the files, several runs for each CPU."""
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
    return _mapped(dataset, _answer_for_run, files=ray.put(files), search=search)


def _mapped(dataset: ray.data.Dataset, function: Any, **arguments: Any) -> ray.data.Dataset:
    return dataset.map_batches(
        function, fn_kwargs=arguments, batch_size=None, batch_format="pyarrow", num_cpus=1
    )


def _in_order(answers: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """The answers in the gallery's order; its context, the caller's, is left as it was."""
    options = answers.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
    finally:
        options.preserve_order = before


def _answer_for_block(block: pa.Table, column: str, search: "ray.ObjectRef[Search]") -> pa.Table:
    def arrays() -> Iterator[pa.Array]:
        if len(block):
            check_column(column, block.column_names)
            yield from block[column].chunks

    return _answer(arrays(), ray.get(search))


def _answer_for_run(
    run: pa.Table, files: "ray.ObjectRef[list[FeatureFile]]", search: "ray.ObjectRef[Search]"
) -> pa.Table:
    opened, wanted = ray.get(files), ray.get(search)

    def arrays() -> Iterator[pa.Array]:
        for number, rows in groupby(run.to_pylist(), key=itemgetter("file")):
            pieces = [row["piece"] for row in rows]
            yield from opened[number].read(pieces, wanted.rows_at_once)

    return _answer(arrays(), wanted)


def _answer(arrays: Iterator[pa.Array], search: Search) -> pa.Table:
    """A row: how many images are in these arrays and which are the best, or the trouble with them.

    `keys` and `indices` are the bytes of a `Best`; `trouble` and `bad_row` are null where there is
    none. Indices and rows are counted from the first array: a task cannot know what is before it.
    """
    torch.set_num_threads(1)  # it has one CPU, and a process that Ray reuses may have set more
    best, images, trouble, bad_row = search.nothing(), 0, None, None
    try:
        best, images = search.best_of_arrays(arrays)
    except InvalidRowError as error:
        trouble, bad_row = error.trouble, error.row
    except ValueError as error:
        trouble = str(error)
    answer = {
        "images": images,
        "keys": best.keys.tobytes(),
        "indices": best.indices.tobytes(),
        "trouble": trouble,
        "bad_row": bad_row,
    }
    return pa.Table.from_pylist([answer], schema=ANSWER_SCHEMA)


def _read_answer(answer: dict[str, Any], search: Search, first: int) -> Best:
    """What was found in the part of the gallery that begins at `first`.

    Raises:
        ValueError: there was trouble.
    """
    if answer["bad_row"] is not None:
        raise InvalidRowError("gallery", first + answer["bad_row"], answer["trouble"])
    if answer["trouble"] is not None:
        raise ValueError(answer["trouble"])
    shape = len(search.query), -1
    keys: NDArray[np.float64] = np.frombuffer(answer["keys"]).reshape(shape)
    indices: NDArray[np.int64] = np.frombuffer(answer["indices"], np.int64).reshape(shape)
    return Best(keys, indices).moved(first)
