"""Counts on the device of the features against a sort of float64 distances and the CPU's path."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.metrics import block_counts
from reidray.metrics.block_counts import count_before_exact_matches, count_before_matches
from reidray.metrics.match_ranks import rank_matches
from reidray.metrics.protocols import build_ground_truth
from reidray.retrieval import distance_blocks
from reidray.retrieval.array_inputs import check_features
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import build_distance_metric
from reidray.retrieval.numerics import tree_sum


@st.composite
def problems(draw):
    """Draw features with ties, duplicates and nearly equal distances, of any magnitude."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, images, values = (draw(st.integers(1, most)) for most in (9, 90, 5))
    sides = [random.integers(-2, 3, size=(n, values)).astype("f4") for n in (queries, images)]
    noise = draw(st.sampled_from([0, 1, 1e-6]))
    scale = np.float32(draw(st.sampled_from([1, 0.1, 1e-25, 1e25])))
    query, gallery = (
        (side + noise * random.normal(size=side.shape).astype("f4")) * scale for side in sides
    )
    gallery[images // 2 :] = gallery[: images - images // 2]  # duplicates
    people, cameras = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    labels = {
        "query_ids": random.integers(0, people + 1, queries),
        "gallery_ids": random.integers(-1, people + 1, images),
        "query_cameras": random.integers(0, cameras, queries),
        "gallery_cameras": random.integers(0, cameras, images),
    }
    labels["query_ids"][0] = labels["gallery_ids"][0] = 1
    labels["gallery_cameras"][0] = labels["query_cameras"][0] + 1
    return query.astype("f4"), gallery.astype("f4"), labels


def blocks_and_truth(query, gallery, labels, metric="euclidean", protocol="market1501"):
    queries, images, scale = check_features(query, gallery)
    truth = build_ground_truth(**labels, protocol=protocol, shape=(len(query), len(gallery)))
    blocks = DistanceBlocks(queries, images, build_distance_metric(metric, scale), memory_mb=64)
    return blocks, truth


def per_query(counted):
    """Return the counts of each query that has a match."""
    return {
        query: counts.tolist()
        for block in counted
        for query, counts in zip(
            block.queries.tolist(),
            np.split(block.counts, block.matches.cumsum()[:-1]),
            strict=True,
        )
    }


def by_sorting(query, gallery, truth):
    """Return the ranks of the matches less the matches before, from sorted float64 distances."""
    found = {}
    for index, features in enumerate(query.astype(float)):
        matches, same = truth.matches(index), truth.same_person(index)
        if len(matches) == 0:
            continue
        squares = (gallery.astype(float) - features) ** 2
        distances = tree_sum(torch.from_numpy(squares)).numpy()
        hidden = np.union1d(truth.junk, np.setdiff1d(same, matches))
        order = distances.argsort(kind="stable")
        order = order[~np.isin(order, hidden)]
        ranks = np.flatnonzero(np.isin(order, matches))
        found[index] = (ranks - np.arange(len(ranks))).tolist()
    return found


@given(problems(), st.sampled_from(["market1501", "all"]), st.integers(1, 5), st.integers(1, 50))
@settings(max_examples=60)
def test_counts_equal_those_of_sorted_float64_distances(problem, protocol, rows, at_once):
    query, gallery, labels = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance_blocks, "MAX_ROWS", rows)
        patch.setattr(block_counts, "OPEN_PAIRS_AT_ONCE", at_once)
        blocks, truth = blocks_and_truth(query, gallery, labels, protocol=protocol)
        found = per_query(count_before_matches(blocks, truth))
    assert found == by_sorting(query, gallery, truth)


def hard(values=300):
    """Return random features with many nearly equal distances, and duplicates."""
    random = np.random.default_rng(6)
    query, gallery = (random.normal(size=(n, values)).astype("f4") for n in (25, 300))
    gallery[150:200] = gallery[:50]
    labels = {
        "query_ids": random.integers(1, 20, 25),
        "gallery_ids": random.integers(-1, 20, 300),
        "query_cameras": random.integers(0, 3, 25),
        "gallery_cameras": random.integers(0, 3, 300),
    }
    return query, gallery, labels


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "l1"])
def test_counts_equal_those_of_the_cpu_path(metric, share, monkeypatch):
    monkeypatch.setattr(block_counts, "MAX_AMBIGUOUS_SHARE", share)
    blocks, truth = blocks_and_truth(*hard(), metric=metric)
    expected = {
        ranks.query: ranks.counts_before().tolist() for ranks in rank_matches(blocks, truth)
    }
    assert per_query(count_before_matches(blocks, truth)) == expected


def test_equal_exact_keys_go_to_the_lower_index():
    _, _, labels = hard()
    truth = build_ground_truth(**labels, protocol="market1501", shape=(25, 300))
    distances = np.random.default_rng(1).integers(0, 9, (25, 300)).astype(float)
    found = per_query(count_before_exact_matches(torch.tensor(distances), truth, slice(0, 25)))
    for query, counts in found.items():
        matches = truth.matches(query)
        hidden = np.union1d(truth.junk, truth.same_person(query))
        others = np.setdiff1d(np.arange(300), hidden)
        before = [
            sum((distances[query, c], c) < (distances[query, match], match) for c in others)
            for match in matches
        ]
        assert counts == sorted(before)
