"""An invalid argument is a ValueError that names it."""

import numpy as np
import pytest
import torch

from reidray.metrics import evaluate
from reidray.retrieval import top_k

QUERY = np.eye(3, 4, dtype=np.float32)
GALLERY = np.eye(5, 4, dtype=np.float32)


def with_value(features, value):
    features = features.copy()
    features[2, 1] = value
    return features


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": with_value(QUERY, np.nan)}, "`query` row 2 holds NaN"),
        ({"gallery": with_value(GALLERY, np.inf)}, "`gallery` row 2 holds NaN, infinity"),
        ({"gallery": with_value(GALLERY, -np.inf)}, "`gallery` row 2"),
        ({"gallery": with_value(GALLERY.astype(float), 1e300)}, "`gallery` row 2"),
        ({"query": QUERY[0]}, r"`query` has shape \(4,\): expected \(images, values\)"),
        ({"query": QUERY[:0]}, r"`query` has shape \(0, 4\)"),
        ({"gallery": GALLERY[:0]}, r"`gallery` has shape \(0, 4\)"),
        ({"gallery": GALLERY[:, :3]}, "`gallery` has 3 values per image: expected the query's 4"),
        ({"gallery": torch.ones(5, 4)}, "`gallery` is a Tensor and `query` a ndarray"),
        ({"query": [[1.0, 2.0]]}, "`query` is list: expected"),
        ({"query": QUERY.astype(complex)}, "`query` is complex128"),
        ({"query": QUERY.astype(object)}, "`query` is object"),
        ({"k": 0}, "`k` is 0: expected at least 1"),
        ({"k": 2.5}, "`k` is 2.5: expected a whole number"),
        ({"k": True}, "`k` is True: expected a whole number"),
        ({"metric": "hamming"}, "`metric` is 'hamming': expected one of euclidean, cosine, l1"),
        ({"memory_mb": 0}, "`memory_mb` is 0: expected at least 1"),
    ],
)
def test_top_k_names_the_invalid_argument(changed, message):
    with pytest.raises(ValueError, match=message):
        top_k(**{"query": QUERY, "gallery": GALLERY, "k": 2, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_ids": [1, 2]}, r"`query_ids` has shape \(2,\): expected one per image, \(3,\)"),
        ({"gallery_ids": [1] * 6}, r"`gallery_ids` has shape \(6,\)"),
        ({"gallery_cameras": [1]}, r"`gallery_cameras` has shape \(1,\)"),
        ({"query_ids": [1.0, 2.0, 3.0]}, "`query_ids` is float64: expected whole numbers"),
        ({"query_cameras": None}, "`query_cameras` is None.*protocol 'all'"),
        ({"gallery_cameras": None}, "`gallery_cameras` is None.*protocol 'all'"),
        ({"query_ids": [7, 8, 9]}, "`gallery_ids` hold no person of `query_ids`"),
        (
            {"gallery_cameras": [1, 1, 1, 1, 1]},
            "every gallery image of these people comes from the query's own camera.*'all'",
        ),
        ({"protocol": "market"}, "`protocol` is 'market': expected one of market1501"),
        ({"unmatched": "drop"}, "`unmatched` is 'drop'"),
        ({"ap_rule": "voc"}, "`ap_rule` is 'voc'"),
        ({"metric": "dot"}, "`metric` is 'dot'"),
        ({"max_rank": 0}, "`max_rank` is 0: expected at least 1"),
        ({"rounds": 0}, "`rounds` is 0: expected at least 1"),
    ],
)
def test_evaluate_names_the_invalid_argument(changed, message):
    good = {
        "query": QUERY,
        "gallery": GALLERY,
        "query_ids": [1, 2, 3],
        "gallery_ids": [1, 2, 3, 1, 2],
        "query_cameras": [1, 1, 1],
        "gallery_cameras": [1, 2, 1, 2, 1],
    }
    assert evaluate(**good).num_valid_queries == 2
    with pytest.raises(ValueError, match=message):
        evaluate(**{**good, **changed})


def test_k_beyond_the_gallery_returns_all_of_it():
    distances, indices = top_k(QUERY, GALLERY, 50)
    assert distances.shape == indices.shape == (3, 5)
    assert sorted(indices[0].tolist()) == [0, 1, 2, 3, 4]
