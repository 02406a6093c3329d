"""Measure re-ranking of the N best beside re-ranking of a whole gallery, and query expansion.

Run with `pytest -m benchmark -s tests/benchmarks/scale/test_reranking_at_scale.py`. Prints a table
and one JSON line: CPU seconds, and by how much each raises the resident memory. The work for the N
best does not depend on the size of the gallery. `RERANK_GALLERY=16000` sets that of the gallery.
"""

import ctypes
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from reidray.retrieval import (
    Reranking,
    expand_from_neighbours,
    expand_queries,
    joint_sets,
    rerank,
    rerank_candidates,
)
from reidray.retrieval.partitioned_search import PartitionedSearch

GALLERY = int(os.environ.get("RERANK_GALLERY", 16_000))
QUERIES, VALUES, COUNT, K, EXPANDED, FIRST = 1000, 512, 100, 50, 5, 10

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measured(action):
    """Return the CPU seconds of an action and the megabytes that it takes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    memory, start = resident("VmRSS"), time.process_time()
    result = action()
    return {"cpu_s": time.process_time() - start, "mb": resident("VmHWM") - memory}, result


def people():
    """Return queries and a gallery of ten images per person, as directions."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(1, GALLERY // 10), VALUES), dtype=np.float32)
    sides = []
    for rows in (QUERIES, GALLERY):
        side = centres[random.integers(0, len(centres), rows)]
        side += random.standard_normal(side.shape, dtype=np.float32)
        sides.append(side / np.linalg.norm(side, axis=1, keepdims=True))
    return sides


def test_reranking_at_scale():
    torch.set_num_threads(1)
    query, gallery = people()

    def search(images, k, metric="euclidean"):
        task = PartitionedSearch(query, k, metric, 512)
        return task.update(task.empty(), images, 0)

    rows = {}
    rows["search of the N best"], candidates = measured(lambda: search(gallery, COUNT))
    rows["search of other queries"], others = measured(lambda: search(query, COUNT + 1))
    block = np.arange(QUERIES)
    rows["joint sets"], sets = measured(
        lambda: joint_sets(block, candidates, others, COUNT, len(gallery))
    )
    features = query[sets.queries], gallery[sets.gallery]
    rows[f"re-rank N = {COUNT}"], best = measured(
        lambda: rerank_candidates(sets, *features, K, settings=Reranking())
    )
    rows["re-rank the gallery"], whole = measured(lambda: rerank(query, gallery, K))
    nearest = search(gallery, EXPANDED, "cosine").indices
    needed, known = np.unique(nearest, return_inverse=True)
    known, near = known.reshape(nearest.shape), gallery[needed]
    rows["expand by neighbours"], expanded = measured(
        lambda: expand_from_neighbours(query, near, known)
    )
    rows["expand by the gallery"], expected = measured(
        lambda: expand_queries(query, gallery, k=EXPANDED)
    )
    np.testing.assert_array_equal(expanded, expected)
    firsts = zip(best[1][:, :FIRST], whole[1][:, :FIRST], strict=True)
    shared = np.mean([len(np.intersect1d(*each)) for each in firsts])
    print(f"\n{QUERIES} queries, gallery of {GALLERY:,} x {VALUES}, one thread")
    for name, row in rows.items():
        print(f"{name:28} {row['cpu_s']:8.2f} s {row['mb']:8.0f} MB")
    print(f"{shared:.1f} of the {FIRST} best are those of the whole gallery")
    print(json.dumps(rows | {"gallery": GALLERY, "shared": shared}))
