import numpy as np

from reidray.scoring.gallery_distractors import score_distractors

QUERIES = np.array([[1, 0]], np.float32)
GALLERY = np.array([[1, 0], [0, 5]], np.float32)


def test_a_score_is_the_distance_times_the_doubt():
    doubt = np.array([0.1, 0.5], np.float32)
    found = score_distractors(QUERIES, GALLERY, doubt, "euclidean")
    apart = np.sqrt(26)
    np.testing.assert_allclose(found["distractor_score"], [apart / 2 * 0.1, apart * 0.5], 1e-6)
    assert found["attribute_doubt"].tolist() == doubt.tolist()


def test_without_attributes_the_distance_alone_decides():
    for doubt in (None, np.array([0.1, np.nan], np.float32)):
        found = score_distractors(QUERIES, GALLERY, doubt, "euclidean")
        assert found.keys() == {"distractor_score"}
        np.testing.assert_allclose(found["distractor_score"], np.sqrt(26) * np.array([0.5, 1]))
