"""Measure ranking and evaluation, each beside the matrix product that it needs.

Run with `pytest -m benchmark -s tests/benchmarks/test_retrieval_speed.py`. Prints a table and one
JSON line. Times are the least of a few runs that alternate with what they are compared with.
"""

import ctypes
import json
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from support.paths import GOLDEN

from reidray.metrics import evaluate
from reidray.metrics.match_ranks import rank_rows
from reidray.metrics.protocols import build_ground_truth
from reidray.retrieval import rerank, top_k

QUERIES, IMAGES, VALUES, PEOPLE, DISTRACTORS = 3368, 15913, 2048, 750, 2798  # as Market-1501

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


def alternately(*actions, runs=3):
    """The least seconds of each action."""
    seconds = [[] for _ in actions]
    for _ in range(runs):
        for action, taken in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]


def peak_megabytes(action):
    """Measure by how much an action raises the resident memory."""

    def resident(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    ctypes.CDLL(None).malloc_trim(0)  # else memory that was freed but kept hides what is taken
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    action()
    return resident("VmHWM") - before


def market(noise):
    """People as points of 64 dimensions, seen through noise in 2,048; labels as Market-1501's."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(PEOPLE + 1, 64))
    lift = random.normal(size=(64, VALUES))
    ids = (
        random.integers(1, PEOPLE + 1, QUERIES),
        np.r_[np.zeros(DISTRACTORS, int), random.integers(1, PEOPLE + 1, IMAGES - DISTRACTORS)],
    )
    features = []
    for persons in ids:
        points = np.where(persons[:, None] > 0, centres[persons], 0)
        points += random.normal(size=points.shape) * np.where(persons[:, None] > 0, noise, 1)
        seen = np.maximum(points @ lift, 0).astype(np.float32)
        features.append(seen / np.linalg.norm(seen, axis=1, keepdims=True))
    cameras = [random.integers(0, 6, len(persons)) for persons in ids]
    return *features, *ids, *cameras


def real(values):
    """Features of 150 people by OSNet, moved four times to make other people; mAP 0.24.

    The 512 numbers repeat up to the number of values.
    """
    stored = np.load(GOLDEN / "osnet_market.npz")
    random = np.random.default_rng(2)
    people = np.unique(stored["gallery_ids"])
    people = people[people > 0]
    centres = np.stack(
        [
            stored["gallery"][stored["gallery_ids"] == person].astype("f4").mean(0)
            for person in people
        ]
    )
    shifts = 0.7 * random.permutation(centres - centres.mean(axis=0))
    features, ids, cameras = [], [], []
    for side, images in (("query", QUERIES), ("gallery", IMAGES)):
        own, person = stored[side].astype("f4"), stored[f"{side}_ids"].astype(int)
        copies = -(-images // len(own))
        copy = np.repeat(np.arange(copies), len(own))[:images] % 5
        seen, person = (np.concatenate([array] * copies)[:images] for array in (own, person))
        moved = (copy > 0) & (person > 0)
        position = np.searchsorted(people, person[moved]) + 17 * copy[moved]
        seen[moved] += shifts[position % len(people)]
        seen += 0.004 * random.standard_normal(seen.shape, dtype=np.float32)
        seen = np.tile(seen, (1, values // seen.shape[1]))
        features.append(seen / np.linalg.norm(seen, axis=1, keepdims=True))
        ids.append(np.where(person > 0, person + 10_000 * copy, person))
        cameras.append(np.concatenate([stored[f"{side}_cameras"]] * copies)[:images].astype(int))
    return *features, *ids, *cameras


def untrained():
    """Independent random features: every distance is about the same, the hardest to tell apart."""
    _, _, *labels = market(1)
    random = np.random.default_rng(1)
    sides = [random.standard_normal((n, VALUES), dtype=np.float32) for n in (QUERIES, IMAGES)]
    return *(side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides), *labels


def product(query, gallery):
    return torch.mm(torch.from_numpy(query), torch.from_numpy(gallery).T)


def measure_evaluation(problem):
    peak = peak_megabytes(lambda: evaluate(*problem))
    alone, whole = alternately(lambda: product(*problem[:2]), lambda: evaluate(*problem))
    found = evaluate(*problem)
    return {
        "product_s": alone,
        "evaluate_s": whole,
        "ratio": whole / alone,
        "peak_mb": peak,
        "mean_ap": found.mean_ap,
    }


def measure_ranking(problem, queries=512):
    query, gallery, query_ids, gallery_ids, *cameras = problem
    truth = build_ground_truth(
        query_ids[:queries],
        gallery_ids,
        cameras[0][:queries],
        cameras[1],
        "market1501",
        (queries, IMAGES),
    )
    block = 1 - query[:queries] @ gallery.T
    certain = np.zeros(queries)

    copies = [block.copy() for _ in range(3)]  # counting marks them

    def count():
        for ranks in rank_rows(slice(0, queries), copies.pop(), certain, truth):
            ranks.counts_before()

    sort, counted = alternately(lambda: np.argsort(block, axis=1), count)
    return {"argsort_s": sort, "count_s": counted, "times_faster": sort / counted}


def measure_reranking(query, gallery):
    alone, whole = alternately(
        lambda: product(gallery, gallery), lambda: rerank(query, gallery, 50), runs=2
    )
    peak = peak_megabytes(lambda: rerank(query, gallery, 50))
    return {"product_s": alone, "rerank_s": whole, "ratio": whole / alone, "peak_mb": peak}


def measure_top_k(queries=1000, images=1_000_000, values=512, k=50):
    random = np.random.default_rng(2)
    gallery = random.standard_normal((images, values), dtype=np.float32)
    query = random.standard_normal((queries, values), dtype=np.float32)

    def blocked_product():
        for left in range(0, images, 8192):
            product(query, gallery[left : left + 8192])

    peak = peak_megabytes(lambda: top_k(query, gallery, k))
    index = faiss.IndexFlatL2(values)
    index.add(gallery)
    alone, whole, other = alternately(
        blocked_product,
        lambda: top_k(query, gallery, k),
        lambda: index.search(query, k),
        runs=4,
    )
    return {
        "product_s": alone,
        "top_k_s": whole,
        "ratio": whole / alone,
        "peak_mb": peak,
        "faiss_s": other,
        "ratio_to_faiss": whole / other,
    }


def test_retrieval_speed():
    trained = market(0.93)
    measurements = {
        "evaluate, made, mAP 1.0": measure_evaluation(market(0.5)),
        "evaluate, made, mAP 0.9": measure_evaluation(trained),
        "ranking part": measure_ranking(trained),
        "evaluate, random": measure_evaluation(untrained()),
        "rerank": measure_reranking(*trained[:2]),
        "top_k": measure_top_k(),
    }
    if GOLDEN.is_dir():
        for values in (2048, 512):
            measurements[f"evaluate, real, {values}"] = measure_evaluation(real(values))
    print()
    for work, measured in measurements.items():
        shown = ", ".join(f"{name} {value:.3g}" for name, value in measured.items())
        print(f"{work:24} {shown}")
    print(json.dumps(measurements))
