import numpy as np
import pytest

from reidray.errors import UserError
from reidray.scoring.config import ScoreConfig
from reidray.scoring.embedder import EmbeddedSet
from reidray.scoring.sifting import sift


def embedded(embeddings, doubt):
    embeddings = np.array(embeddings, np.float32)
    rows = np.arange(len(embeddings)) * 2
    codes = rows[:, None]
    return EmbeddedSet(rows, embeddings, codes, np.array(doubt, np.float32), ())


QUERIES = embedded([[1, 0]], [0.1])
GALLERY = embedded([[1, 0], [1, 0.1], [0, 5], [-4, 0]], [0.1, 0.2, 0.5, 0.1])


def asked(**settings):
    return ScoreConfig(model="m", queries="q", gallery="g", output="o", **settings)


def test_a_score_is_the_distance_times_the_doubt_and_the_highest_are_left_out():
    alone = GALLERY.take(np.array([True, False, False, True]))
    found = sift(QUERIES, alone, "euclidean", asked(distractor_scores=True))
    distances = np.float32([2.5, 5])  # the mean of 0 and 5; of 5 and 5
    np.testing.assert_allclose(found.scores["distractor_score"], distances * np.float32(0.1))
    assert found.scores["attribute_doubt"].tolist() == alone.doubt.tolist()
    assert found.ranked is alone
    left = sift(QUERIES, GALLERY, "euclidean", asked(max_distractor_score=1.0))
    assert left.ranked.rows.tolist() == [0, 2, 6]
    assert left.ranked.codes.tolist() == [[0], [2], [6]]
    assert len(left.scores["distractor_score"]) == 4


def test_without_attributes_the_distance_alone_decides():
    gallery = embedded(GALLERY.embeddings, [np.nan] * 4)
    found = sift(QUERIES, gallery, "euclidean", asked(distractor_scores=True))
    assert found.scores.keys() == {"distractor_score"}
    assert found.scores["distractor_score"].argmax() == 2
    left = sift(QUERIES, gallery, "euclidean", asked(max_distractor_score=5.38))
    assert left.ranked.rows.tolist() == [0, 2, 6]


def test_nothing_is_scored_where_nobody_asks():
    found = sift(QUERIES, GALLERY, "euclidean", asked())
    assert found.ranked is GALLERY
    assert found.scores == {}


def test_a_threshold_that_leaves_nothing_is_refused_with_the_least_score():
    with pytest.raises(UserError, match=r"0\.01 leaves out the whole gallery.*least score is 0\.2"):
        sift(QUERIES, GALLERY, "euclidean", asked(max_distractor_score=0.01))
