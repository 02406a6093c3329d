"""Scores of distractors, and the AUC of a score."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.paths import GOLDEN

from reidray.metrics.distractor_scores import (
    attribute_uncertainty,
    distractor_auc,
    mean_neighbour_distance,
)

few = st.integers(1, 12)
small = st.integers(-2, 2).map(float)


def test_uncertainty_is_zero_for_certain_attributes_and_grows_with_spread():
    hat, colour = torch.eye(2), torch.eye(3)[:2]
    assert attribute_uncertainty([hat, colour]).tolist() == [0, 0]
    unsure = [torch.full((1, 2), 0.5), torch.full((1, 4), 0.25), torch.tensor([[1.0, 0.0]])]
    assert attribute_uncertainty(unsure).tolist() == pytest.approx([(0.5 + 0.75 + 0) / 3])
    leaning = attribute_uncertainty([torch.tensor([[0.9, 0.1], [0.6, 0.4]])])
    assert leaning.tolist() == pytest.approx([0.18, 0.48])


def by_the_whole_matrix(query, gallery, k):
    """Return the mean of the k smallest distances to all other images."""
    everything = np.concatenate([gallery, query])
    distances = np.sqrt(((gallery[:, None] - everything[None]) ** 2).sum(axis=2))
    distances[np.arange(len(gallery)), np.arange(len(gallery))] = np.inf
    nearest = np.sort(distances, axis=1)[:, : min(k, len(everything) - 1)]
    return nearest.mean(axis=1)


@given(st.data(), few, few, st.integers(1, 5))
def test_neighbour_distances_equal_those_of_the_whole_matrix(data, queries, images, k):
    query, gallery = (
        data.draw(arrays(np.float32, (count, 2), elements=small)) for count in (queries, images)
    )
    found = mean_neighbour_distance(query, gallery, k=k)
    np.testing.assert_allclose(found, by_the_whole_matrix(query, gallery, k), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "l1"])
def test_neighbour_distances_have_the_same_bits_for_any_block_size(metric):
    random = np.random.default_rng(0)
    query, gallery = (random.normal(size=(n, 64)).astype(np.float32) for n in (200, 1200))
    gallery[5] = gallery[900] = gallery[1199]
    gallery[17] = 0
    whole = mean_neighbour_distance(query, gallery, k=3, metric=metric, memory_mb=512)
    parts = mean_neighbour_distance(query, gallery, k=3, metric=metric, memory_mb=2)
    assert whole.tobytes() == parts.tobytes()
    (nearest,) = mean_neighbour_distance(query, gallery, k=2, metric=metric)[[1199]]
    assert nearest == 0


def test_an_image_unlike_all_others_is_the_farthest_from_its_neighbour():
    random = np.random.default_rng(1)
    people = random.normal(size=(20, 16))
    gallery = np.repeat(people, 6, axis=0) + 0.1 * random.normal(size=(120, 16))
    alone = 2 * random.normal(size=(1, 16))
    images = np.concatenate([gallery, alone]).astype(np.float32)
    assert mean_neighbour_distance(people.astype(np.float32), images).argmax() == 120
    photographed_often = np.concatenate([people, np.repeat(alone, 5, axis=0)]).astype(np.float32)
    assert mean_neighbour_distance(photographed_often, images)[120] == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(images):
    scores, kinds = (np.array(column) for column in zip(*images, strict=True))
    if kinds.all() or not kinds.any():
        with pytest.raises(ValueError, match="expected both kinds"):
            distractor_auc(scores, kinds)
        return
    differences = scores[kinds][:, None] - scores[~kinds]
    found = distractor_auc(scores, kinds)
    assert found.auc == pytest.approx(((differences > 0) + 0.5 * (differences == 0)).mean())
    assert (found.distractors, found.people) == (kinds.sum(), (~kinds).sum())
    if min(found.distractors, found.people) == 1:
        assert found.interval is None
    else:
        low, high = found.interval
        assert 0 <= low <= found.auc <= high <= 1
        reversed_roles = distractor_auc(-scores, kinds).interval
        assert reversed_roles == pytest.approx((1 - high, 1 - low))


def test_auc_intervals_contain_the_true_auc_in_95_percent():
    random = np.random.default_rng(2)
    kinds = np.arange(200) < 60
    held = 0
    for _ in range(300):
        low, high = distractor_auc(random.normal(size=200) + kinds, kinds).interval
        held += low <= 0.76025 <= high  # that of two normal distributions one deviation apart
    assert 0.92 <= held / 300 <= 0.98


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden features are not beside the checkout")
def test_real_distractors_are_farther_from_their_neighbours_than_people():
    features = dict(np.load(GOLDEN / "osnet_market.npz", allow_pickle=False))
    people = features["gallery_ids"]
    distance = mean_neighbour_distance(features["query"], features["gallery"], metric="cosine")
    seen = people >= 0
    found = distractor_auc(distance[seen], people[seen] == 0)
    assert (found.distractors, found.people) == (350, 2676)
    assert found.interval[0] > 0.85
