import numpy as np
import pytest
import torch

from reidray.metrics import evaluate
from reidray.retrieval import expand_queries


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
