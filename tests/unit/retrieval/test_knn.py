"""Classification of queries by their nearest images."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from reidray.retrieval import knn_classify, vote_attributes


def labelled_features(seed=0):
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 15, n) for n in (60, 300)]
    features = [
        (part[:, None] + 4 * random.normal(size=(len(part), 6))).astype(np.float32) for part in ids
    ]
    return *features, *ids


@pytest.mark.parametrize(("k", "weights"), [(1, "uniform"), (5, "distance"), (300, "distance")])
def test_the_vote_equals_that_of_scikit_learn(k, weights):
    query, gallery, _, gallery_ids = labelled_features()
    other = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(gallery, gallery_ids)
    named = knn_classify(query, gallery, gallery_ids, k=k, weights=weights)
    np.testing.assert_array_equal(named, other.predict(query))
    assert len(set(named)) > 3


def test_an_even_vote_goes_to_the_nearest():
    gallery = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    query = np.zeros((1, 1), np.float32)
    assert knn_classify(query, gallery, [9, 4, 4, 9], k=4) == [9]
    assert knn_classify(query, gallery, [4, 9, 9, 4], k=3) == [9]


def test_an_image_at_distance_zero_overrules_many_near_ones():
    gallery = torch.tensor([[0.0], [0.1], [0.1], [0.1]])
    query = torch.zeros(1, 1)
    assert knn_classify(query, gallery, [3, 5, 5, 5], k=4, weights="distance") == [3]
    assert knn_classify(query, gallery, [3, 5, 5, 5], k=4) == [5]


def test_invalid_arguments_are_named():
    query, gallery, query_ids, gallery_ids = labelled_features()
    with pytest.raises(
        ValueError, match="`weights` is 'cosine': expected one of uniform, distance"
    ):
        knn_classify(query, gallery, gallery_ids, weights="cosine")
    with pytest.raises(ValueError, match=r"`gallery_ids` has shape \(60,\): expected .*\(300,\)"):
        knn_classify(query, gallery, query_ids)
    with pytest.raises(ValueError, match="`k` is 0"):
        knn_classify(query, gallery, gallery_ids, k=0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 4, 1000])
def test_the_nearest_images_vote_on_each_attribute(k, metric):
    features, _, ids, _ = labelled_features()
    labels = np.stack([ids % 2, ids % 5, np.arange(len(ids)) % 3], axis=1)
    voted = vote_attributes(features, labels, k=k, metric=metric)
    distances = cdist(features, features, metric)
    for image, row in enumerate(distances.argsort(axis=1)[:, :k]):
        for attribute in range(3):
            votes = Counter(labels[row, attribute].tolist())  # in the order of the distances
            assert voted[image, attribute] == votes.most_common(1)[0][0]
    assert (k == 1) == np.array_equal(voted, labels)
