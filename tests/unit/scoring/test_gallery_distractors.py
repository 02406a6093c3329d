import numpy as np
import pytest

from reidray.errors import UserError
from reidray.inference.predictions import Predictions
from reidray.scoring.gallery_distractors import filter_distractors


def make_predictions(embeddings, uncertainty):
    labels = np.zeros((len(embeddings), 1), dtype=np.int64)
    return Predictions(np.array(embeddings, np.float32), labels, np.array(uncertainty, np.float32))


QUERIES = make_predictions([[1, 0]], [0.1])
GALLERY = make_predictions([[1, 0], [1, 0.1], [0, 5], [-4, 0]], [0.1, 0.2, 0.5, 0.1])


def test_a_score_is_the_distance_times_the_doubt_and_the_highest_are_left_out():
    alone = GALLERY.select(np.array([0, 3]))
    found = filter_distractors(QUERIES, alone, "euclidean", None)
    distances = np.float32([2.5, 5])  # the mean of 0 and 5; of 5 and 5
    np.testing.assert_allclose(found.scores["distractor_score"], distances * np.float32(0.1))
    assert found.scores["attribute_doubt"].tolist() == alone.uncertainty.tolist()
    assert found.keep.all()
    left = filter_distractors(QUERIES, GALLERY, "euclidean", 1.0)
    assert left.keep.tolist() == [True, True, False, True]
    assert len(left.scores["distractor_score"]) == 4


def test_without_attributes_the_distance_alone_decides():
    gallery = make_predictions(GALLERY.embeddings, [np.nan] * 4)
    found = filter_distractors(QUERIES, gallery, "euclidean", None)
    assert found.scores.keys() == {"distractor_score"}
    assert found.scores["distractor_score"].argmax() == 2
    left = filter_distractors(QUERIES, gallery, "euclidean", 5.38)
    assert left.keep.tolist() == [True, True, False, True]


def test_a_threshold_that_leaves_nothing_is_refused_with_the_least_score():
    with pytest.raises(
        UserError, match=r"0\.01` leaves out the whole gallery.*least score is 0\.2"
    ):
        filter_distractors(QUERIES, GALLERY, "euclidean", 0.01)
