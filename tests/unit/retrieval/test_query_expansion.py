import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.metrics import evaluate
from reidray.retrieval import expand_from_neighbours, expand_queries, top_k


def people(seed, persons=20, images=8, size=16, noise=1.1):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(persons), images)
    features = rng.normal(size=(persons, size))[ids] + noise * rng.normal(size=(len(ids), size))
    features = features.astype(np.float32)
    return features[::images], np.delete(features, np.s_[::images], axis=0), ids[::images], ids


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expanded_queries_are_weighted_means_of_their_neighbours(alpha):
    query, gallery, *_ = people(0)
    unit_query, unit_gallery = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery)
    )
    cosines = unit_query @ unit_gallery.T
    expected = unit_query.copy()
    for row, order in enumerate(np.argsort(-cosines, axis=1)[:, :4]):
        for image in order:
            if cosines[row, image] > 0:
                expected[row] += cosines[row, image] ** alpha * unit_gallery[image]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = expand_queries(query, gallery, k=4, alpha=alpha)
    assert np.abs(found - expected).max() < 1e-5
    assert torch.equal(
        expand_queries(torch.from_numpy(query), torch.from_numpy(gallery), k=4, alpha=alpha),
        torch.from_numpy(found),
    )


def test_a_second_search_finds_more_of_each_person():
    query, gallery, people_asked, ids = people(1)
    gallery_ids = np.delete(ids, np.s_[::8])
    settings = {"metric": "cosine", "protocol": "all"}
    before = evaluate(query, gallery, people_asked, gallery_ids, **settings)
    again = expand_queries(query, gallery, k=3)
    after = evaluate(again, gallery, people_asked, gallery_ids, **settings)
    assert after.mean_ap > before.mean_ap + 0.02


def test_images_at_an_obtuse_angle_have_no_weight():
    query, gallery = np.float32([[1, 0]]), np.float32([[-1, 0], [-1, 0.1]])
    assert (expand_queries(query, gallery, alpha=0) == query).all()


def test_an_invalid_argument_is_named():
    query, gallery, *_ = people(2)
    with pytest.raises(ValueError, match="`alpha` is -1"):
        expand_queries(query, gallery, alpha=-1)
    with pytest.raises(ValueError, match="`k` is 0"):
        expand_queries(query, gallery, k=0)


@given(
    st.integers(0, 1000),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.7, 3.0]),
    st.integers(1, 20),
    st.sampled_from([5, 32, 100]),
)
@settings(max_examples=40)
def test_known_neighbours_give_the_bits_of_a_search_for_any_block(seed, k, alpha, block, size):
    query, gallery, *_ = people(seed, images=3, size=size)
    expected = expand_queries(query, gallery, k=k, alpha=alpha)
    for top in range(0, len(query), block):
        some = query[top : top + block]
        positions = top_k(some, gallery, k, metric="cosine")[1]
        needed = np.unique(positions)
        rows = np.searchsorted(needed, positions)
        found = expand_from_neighbours(some, gallery[needed], rows, alpha=alpha)
        np.testing.assert_array_equal(found, expected[top : top + block])


def test_a_query_without_neighbours_keeps_its_direction():
    query, gallery = np.float32([[3, 4], [1, 0]]), np.float32([[0, 2]])
    found = expand_from_neighbours(query, gallery, np.array([[-1], [0]]), alpha=0)
    np.testing.assert_array_equal(found, np.float32([[0.6, 0.8], [1, 0]]))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"alpha": -1}, "`alpha` is -1"),
        ({"neighbours": np.array([[0], [1]])}, r"`neighbours` has shape \(2, 1\): expected \(1, "),
        ({"neighbours": np.array([[2]])}, "`neighbours` has values from 2 to 2: expected rows"),
    ],
)
def test_an_invalid_argument_of_known_neighbours_is_named(wrong, complaint):
    arguments = {"neighbours": np.array([[0]]), "alpha": 3.0} | wrong
    with pytest.raises(ValueError, match=complaint):
        expand_from_neighbours(np.ones((1, 2)), np.ones((2, 2)), **arguments)
