"""Measure `top_k` over Arrow files on a Ray cluster, beside arrays on one machine.

Run with `pytest -m benchmark -s tests/benchmarks/test_distributed_speed.py`. Prints a table and one
JSON line. Times are the least of a few runs, after one that starts the workers.
"""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import ray

from reidray.retrieval import distributed, top_k

QUERIES, IMAGES, VALUES, K, FILES, RUNS = 500, 300_000, 256, 50, 8, 3

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]


@pytest.fixture
def cpus():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield 2
    ray.shutdown()


def write_gallery(folder, gallery, write):
    folder.mkdir()
    for number, part in enumerate(np.array_split(gallery, FILES)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), VALUES)
        write(pa.table({"embedding": lists}), folder / str(number))
    return folder


def write_uncompressed(table, path):
    pyarrow.feather.write_feather(table, path, compression="uncompressed")


def test_distributed_speed(tmp_path, cpus):
    random = np.random.default_rng(0)
    query, gallery = (random.standard_normal((n, VALUES), np.float32) for n in (QUERIES, IMAGES))
    arrow = write_gallery(tmp_path / "arrow", gallery, write_uncompressed)
    parquet = write_gallery(tmp_path / "parquet", gallery, pq.write_table)
    ways = {
        "arrays, this process": lambda: top_k(query, gallery, K),
        "Arrow files, cluster": lambda: distributed.top_k(query, arrow, K),
        "Parquet files, cluster": lambda: distributed.top_k(query, parquet, K),
    }
    seconds = {name: [] for name in ways}
    expected = top_k(query, gallery, K)
    for _ in range(1 + RUNS):
        for name, way in ways.items():
            start = time.perf_counter()
            found = way()
            seconds[name].append(time.perf_counter() - start)
            assert all((a == b).all() for a, b in zip(found, expected, strict=True))
    print(f"\n{QUERIES} x {IMAGES:,} x {VALUES}, k = {K}, {cpus} CPUs")
    for name, (first, *later) in seconds.items():
        print(f"{name:24} first {first:6.2f} s, then {min(later):6.2f} s")
    print(json.dumps({name: {"first": s[0], "then": min(s[1:])} for name, s in seconds.items()}))
