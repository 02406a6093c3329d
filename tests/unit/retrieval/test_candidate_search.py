"""The search of a GPU, run on the CPU, against that of the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.retrieval import DISTANCE_METRICS
from reidray.retrieval.array_inputs import check_features
from reidray.retrieval.distances import build_distance_metric
from reidray.retrieval.search_algorithms import candidate_search
from reidray.retrieval.search_algorithms.block_search import search_blocks
from reidray.retrieval.search_algorithms.candidate_search import (
    find_candidates,
    is_undecided,
    rank_candidates,
    search_candidates,
)

METRICS = sorted(DISTANCE_METRICS)


def assert_equal_to_blocks(query, gallery, k, metric, memory_mb=64):
    query, gallery, scale = check_features(query, gallery)
    chosen = build_distance_metric(metric, scale)
    k = min(k, len(gallery))
    expected = search_blocks(query, gallery, k, chosen, memory_mb)
    found = search_candidates(query, gallery, k, chosen, memory_mb)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@st.composite
def features(draw):
    """Draw features of many kinds: with ties, copies, clusters, of any size and precision."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, values = draw(st.integers(1, 400)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["integers", "normal", "clusters", "near copies"]))
    queries = draw(st.integers(1, 8))
    if kind == "integers":
        both = random.integers(-2, 3, size=(queries + images, values))
    else:
        both = random.normal(size=(queries + images, values))
    if kind in ("clusters", "near copies"):
        both = both[random.integers(0, min(5, len(both)), len(both))]
        noise = 0.1 if kind == "clusters" else 1e-7
        both = both + noise * random.normal(size=both.shape)
    both[random.random(len(both)) < draw(st.sampled_from([0, 0.5]))] = both[0]
    both = (both * draw(st.sampled_from([1, 1, 0.5, 1e-30, 1e25]))).astype(np.float32)
    tensors = torch.from_numpy(both).split([queries, images])
    return [side.half() for side in tensors] if draw(st.booleans()) else tensors


@given(features(), st.integers(1, 60), st.sampled_from(METRICS), st.integers(5, 500))
@settings(max_examples=70)
def test_the_result_has_the_bits_of_the_search_in_blocks(both, k, metric, columns):
    query, gallery = both
    if not (query.isfinite().all() and gallery.isfinite().all()):  # too large for float16
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_search, "MAX_COLUMNS", columns)
        patch.setattr(candidate_search, "MAX_ROWS", 3)
        assert_equal_to_blocks(query, gallery, k, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_many_copies_of_a_row_are_ranked_in_the_order_of_the_gallery(metric):
    random = np.random.default_rng(0)
    query, gallery = (random.normal(size=(n, 16)).astype(np.float32) for n in (6, 30_000))
    gallery[1_000:29_000] = query[0] + 1
    assert_equal_to_blocks(query, gallery, 20, metric, memory_mb=2)


@pytest.mark.parametrize("metric", METRICS)
def test_the_host_reads_nothing_before_the_end(metric, monkeypatch):
    """A read of a value on the device `meta`, which holds none, raises."""
    monkeypatch.setattr(candidate_search, "MAX_COLUMNS", 64)
    query, gallery = (torch.empty(n, 48, device="meta") for n in (10, 500))
    chosen = build_distance_metric(metric, 1.0)
    farthest = torch.empty(10, device="meta")
    found = find_candidates(query, gallery, 20, chosen, 64, farthest)
    keys, indices = rank_candidates(query, gallery, 10, chosen, found)
    assert keys.shape == indices.shape == (10, 10)
    assert is_undecided(found, 10).shape == (10,)
    with pytest.raises(RuntimeError, match="meta"):
        search_candidates(query, gallery, 10, chosen, 64)
