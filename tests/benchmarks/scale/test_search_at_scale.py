"""Measure the search of a gallery in shards beside its matrix product and the reading.

Run with `pytest -m benchmark -s tests/benchmarks/scale/test_search_at_scale.py`. Prints a table and
one JSON line. Two processes of one thread each search a half of the shards, as the tasks of a
nightly run do. For each shard, reading, product and search follow each other, so that all three
meet the same load of the machine. `SEARCH_ROWS=20000000` sets the size of the gallery.
"""

import json
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from reidray.retrieval.arrow_features import open_files, to_matrix
from reidray.retrieval.neighbours import merge_neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch

ROWS = int(os.environ.get("SEARCH_ROWS", 1 << 20))
SHARD, QUERIES, VALUES, K, PROCESSES, FAN_IN = 1 << 17, 1000, 256, 50, 2, 8
PRODUCT_ROWS = 8192

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def query_features():
    random = np.random.default_rng(1)
    return unit(random.standard_normal((QUERIES, VALUES), dtype=np.float32))


def shards():
    """Return the first row and the number of rows of each shard."""
    return [(first, min(SHARD, ROWS - first)) for first in range(0, ROWS, SHARD)]


class Shards:
    """Write shards of random vectors and read them: one matrix with its columns shuffled."""

    def __init__(self, folder):
        random = np.random.default_rng(0)
        self._matrix = unit(random.standard_normal((SHARD, VALUES), dtype=np.float32))
        self._folder = folder

    def write(self, first, rows):
        random = np.random.default_rng(first)
        matrix = self._matrix[:rows, random.permutation(VALUES)]
        matrix *= random.choice(np.float32([-1, 1]), VALUES)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), VALUES)
        path = self._folder / f"{first}.parquet"
        options = {"compression": "none", "use_dictionary": False, "row_group_size": rows}
        pq.write_table(pa.table({"embedding": lists}), path, **options)
        return path

    def read(self, path):
        (file,) = open_files(path, "embedding")
        arrays = file.read(range(file.pieces), 5 * SHARD)
        return np.concatenate([to_matrix(array, VALUES) for array in arrays])


def product(query, gallery, out):
    for left in range(0, len(gallery), PRODUCT_ROWS):
        block = gallery[left : left + PRODUCT_ROWS]
        torch.mm(block, query.T, out=out[: len(block)])


def search_shards(folder, chosen):
    """Return the best of some shards and the seconds of each stage."""
    torch.set_num_threads(1)
    query, made = query_features(), Shards(folder)
    search = PartitionedSearch(query, K, "euclidean", 512)
    best, out = search.empty(), torch.empty(PRODUCT_ROWS, QUERIES)
    seconds = dict.fromkeys(("read", "product", "search"), 0.0)

    def timed(stage, action, *arguments):
        start = time.perf_counter()
        result = action(*arguments)
        seconds[stage] += time.perf_counter() - start
        return result

    for first, rows in chosen:
        path = made.write(first, rows)
        matrix = timed("read", made.read, path)
        timed("product", product, torch.from_numpy(query), torch.from_numpy(matrix), out)
        best = timed("search", search.update, best, matrix, first)
        path.unlink()
    seconds["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return best, seconds


def merge_in_a_tree(parts):
    while len(parts) > 1:
        groups = [parts[start : start + FAN_IN] for start in range(0, len(parts), FAN_IN)]
        parts = [merge_neighbours(group, K) for group in groups]
    return parts[0]


def test_search_at_scale(tmp_path):
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        work = [pool.submit(search_shards, tmp_path, shards()[n::PROCESSES]) for n in range(2)]
        found, seconds = zip(*(each.result() for each in work), strict=True)
    start = time.perf_counter()
    best = merge_in_a_tree(list(found))
    measured = {"rows": ROWS, "queries": QUERIES, "values": VALUES, "k": K}
    for stage in ("read", "product", "search"):
        measured[f"{stage}_s"] = sum(each[stage] for each in seconds) / PROCESSES
    measured |= {
        "merge_s": time.perf_counter() - start,
        "search_to_product": measured["search_s"] / measured["product_s"],
        "all_to_product_and_reading": (measured["read_s"] + measured["search_s"])
        / (measured["read_s"] + measured["product_s"]),
        "peak_mb": max(each["peak_mb"] for each in seconds),
    }
    assert best.indices.shape == (QUERIES, min(K, ROWS))
    print()
    for name, value in measured.items():
        print(f"{name:28} {value:12,.2f}")
    print(json.dumps(measured))
