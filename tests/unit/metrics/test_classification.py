import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics

from reidray.metrics.classification import (
    ClassAverages,
    count_mask_pixels,
    evaluate_classification,
    evaluate_masks,
)

MASK_SCORES = (metrics.f1_score, metrics.jaccard_score)
BREEDS = ("Bengal", "pug", "Sphynx", "beagle")


@st.composite
def predictions(draw):
    count = draw(st.integers(1, 40))
    labels = arrays.arrays(np.int64, count, elements=st.integers(0, len(BREEDS) - 1))
    return draw(labels), draw(labels)


@given(predictions())
def test_class_metrics_equal_those_of_scikit_learn(pair):
    predicted, truth = pair
    found = evaluate_classification(predicted, truth, BREEDS)
    report = metrics.classification_report(
        truth, predicted, labels=range(4), target_names=BREEDS, output_dict=True, zero_division=0
    )
    for index, breed in enumerate(BREEDS):
        assert report[breed] == {
            "precision": pytest.approx(found.precision[index]),
            "recall": pytest.approx(found.recall[index]),
            "f1-score": pytest.approx(found.f1[index]),
            "support": found.support[index],
        }
    for mine, name in ((found.macro, "macro avg"), (found.weighted, "weighted avg")):
        theirs = [report[name][key] for key in ("precision", "recall", "f1-score")]
        assert [mine.precision, mine.recall, mine.f1] == pytest.approx(theirs)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found.confusion.sum() == len(truth)
    for row, column in zip(truth, predicted, strict=True):
        found.confusion[row, column] -= 1
    assert not found.confusion.any()


@pytest.mark.filterwarnings("error")
def test_one_class_gives_one_cell_and_no_warning():
    found = evaluate_classification(np.zeros(3, np.int64), np.zeros(3, np.int64), ("pug",))
    assert found.confusion.tolist() == [[3]]
    assert found.macro == ClassAverages(1, 1, 1)


def test_metrics_of_classes_without_images_and_predictions_are_zero():
    found = evaluate_classification(np.array([0, 0, 2]), np.array([0, 0, 1]), BREEDS)
    assert found.classes == BREEDS
    assert found.confusion.dtype == found.support.dtype == np.int64
    assert found.confusion.tolist() == [[2, 0, 0, 0], [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert found.precision.tolist() == [1, 0, 0, 0]
    assert found.recall.tolist() == [1, 0, 0, 0]
    assert found.support.tolist() == [2, 1, 0, 0]
    assert found.macro == ClassAverages(0.25, 0.25, 0.25)
    assert found.weighted == ClassAverages(*[pytest.approx(2 / 3)] * 3)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([], [], r"shape \(0,\)"),
        ([0, 1], [0], r"shape \(2,\) and `truth` \(1,\)"),
        ([4], [0], "`predicted` holds 4: expected 0 to 3"),
        ([0], [-1], "`truth` holds -1: expected 0 to 3"),
    ],
)
def test_invalid_predictions_are_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        evaluate_classification(np.array(predicted, np.int64), np.array(truth, np.int64), BREEDS)


@st.composite
def mask_pairs(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)))
    masks = arrays.arrays(np.bool, shape)
    return draw(masks), draw(masks)


def count(predicted, truth):
    return count_mask_pixels(torch.from_numpy(predicted), torch.from_numpy(truth)).numpy()


def mask_metrics(predicted, truth):
    return evaluate_masks(count(predicted, truth))


@given(mask_pairs())
def test_mask_metrics_equal_those_of_scikit_learn(pair):
    predicted, truth = pair
    found = mask_metrics(predicted, truth)

    def theirs(score, chosen):
        return score(truth[chosen].ravel(), predicted[chosen].ravel(), zero_division=1)

    everything = slice(None)
    assert found.mask_f1 == pytest.approx(theirs(metrics.f1_score, everything))
    assert found.mask_iou == pytest.approx(theirs(metrics.jaccard_score, everything))
    images = range(len(truth))
    by_image = [[theirs(score, i) for i in images] for score in MASK_SCORES]
    assert [found.image_f1, found.image_iou] == pytest.approx(np.mean(by_image, axis=1))


@given(mask_pairs(), st.integers(0, 6))
def test_concatenated_counts_of_batches_give_the_metrics_of_the_whole(pair, cut):
    predicted, truth = pair
    parts = [count(predicted[part], truth[part]) for part in (np.s_[:cut], np.s_[cut:])]
    assert evaluate_masks(np.concatenate(parts)) == mask_metrics(predicted, truth)


def test_an_empty_foreground_scores_one_if_predicted_empty_and_zero_otherwise():
    empty, full = np.zeros((1, 2, 2), np.bool), np.ones((1, 2, 2), np.bool)
    assert set(vars(mask_metrics(empty, empty)).values()) == {1.0}
    assert set(vars(mask_metrics(full, empty)).values()) == {0.0}
    assert set(vars(mask_metrics(empty, full)).values()) == {0.0}


def test_masks_of_another_shape_or_dtype_are_refused():
    masks = np.zeros((2, 3, 4), np.bool)
    with pytest.raises(
        ValueError, match=r"`predicted` has shape \(2, 3, 4\) and `truth` \(1, 3, 4\)"
    ):
        mask_metrics(masks, masks[:1])
    with pytest.raises(ValueError, match=r"`truth` has shape \(2, 3, 4\) and dtype torch.uint8"):
        mask_metrics(masks, masks.astype(np.uint8))
    with pytest.raises(ValueError, match="`counts` has no rows"):
        mask_metrics(masks[:0], masks[:0])
