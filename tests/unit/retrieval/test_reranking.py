import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.metrics import evaluate
from reidray.retrieval import Reranking, rerank, top_k


def people(seed, persons=8, images=6, size=16):
    """Return features near the centre of their person, and person ids."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(persons), images)
    features = rng.normal(size=(persons, size))[ids] + 0.8 * rng.normal(size=(len(ids), size))
    return features.astype(np.float32), ids


def dense_rerank(query, gallery, k1, k2, weight):
    """Return all re-ranked distances, by the formulas of the paper on whole matrices."""
    joint = np.concatenate([query, gallery]).astype(np.float64)
    squared = ((joint[:, None] - joint[None]) ** 2).sum(axis=2)
    original = squared / squared.max(axis=1, keepdims=True)
    order = squared.argsort(axis=1, kind="stable")

    def mutual(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    overlap = np.zeros_like(original)
    for i in range(len(joint)):
        members = set(mutual(i, k1))
        for j in mutual(i, k1):
            theirs = mutual(j, round(k1 / 2))
            if len(theirs & mutual(i, k1)) > 2 / 3 * len(theirs):
                members |= theirs
        chosen = sorted(members)
        overlap[i, chosen] = np.exp(-original[i, chosen])
        overlap[i] /= overlap[i].sum()
    overlap = overlap[order[:, :k2]].mean(axis=1)
    shared = np.minimum(overlap[:, None], overlap[None]).sum(axis=2)
    final = weight * original + (1 - weight) * (1 - shared / (2 - shared))
    return final[: len(query), len(query) :]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    k1=st.integers(1, 12),
    k2=st.integers(1, 6),
    weight=st.floats(0, 1),
)
def test_distances_equal_those_of_whole_matrices(seed, k1, k2, weight):
    features, _ = people(seed)
    query, gallery = features[::6], np.delete(features, np.s_[::6], axis=0)
    k2 = min(k1, k2)
    distances, indices = rerank(query, gallery, 99, k1=k1, k2=k2, lambda_value=weight)
    expected = dense_rerank(query, gallery, k1, k2, weight)
    assert np.abs(distances - np.take_along_axis(expected, indices, axis=1)).max() < 1e-5
    assert (np.diff(distances, axis=1) >= 0).all()
    assert (np.sort(indices, axis=1) == np.arange(len(gallery))).all()


def test_a_small_budget_changes_nothing():
    features, _ = people(1, persons=60)
    whole = rerank(features[:90], features[90:], 10)
    blocks = rerank(features[:90], features[90:], 10, memory_mb=1)
    assert (whole[1] == blocks[1]).all()


def test_lambda_of_one_ranks_as_top_k():
    features, _ = people(2)
    reranked = rerank(features[:9], features[9:], 10, k1=5, k2=2, lambda_value=1)
    assert (reranked[1] == top_k(features[:9], features[9:], 10)[1]).all()


def test_reranking_improves_a_ranking_of_clusters():
    features, ids = people(3, persons=30, images=10)
    query = np.arange(0, len(ids), 10)
    gallery = np.delete(np.arange(len(ids)), query)
    arrays = features[query], features[gallery], ids[query], ids[gallery]
    plain = evaluate(*arrays, protocol="all")
    again = evaluate(*arrays, protocol="all", reranking=Reranking(k1=10, k2=3))
    assert again.mean_ap > plain.mean_ap + 0.02
    assert "re-ranked with k1=10, k2=3, lambda=0.3" in str(again)


def test_tensors_come_back_as_tensors():
    features, _ = people(4)
    tensor = torch.from_numpy(features)
    distances, indices = rerank(tensor[:9], tensor[9:], 5)
    assert (indices.numpy() == rerank(features[:9], features[9:], 5)[1]).all()
    assert distances.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"k1": 48}, "`k1` is 48: expected fewer than the 48 images"),
        ({"k1": 0}, "`k1` is 0"),
        ({"k1": 5, "k2": 6}, "`k2` is 6: expected at most `k1`, 5"),
        ({"lambda_value": 1.5}, "`lambda_value` is 1.5: expected 0 to 1"),
        ({"k": 0}, "`k` is 0"),
        ({"metric": "hamming"}, "metric"),
    ],
)
def test_an_invalid_argument_is_named_with_the_expected_value(arguments, complaint):
    features, _ = people(5)
    with pytest.raises(ValueError, match=complaint):
        rerank(features[:8], features[8:], **({"k": 5} | arguments))
