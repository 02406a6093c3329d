"""Compute metrics of predicted classes and of predicted foreground masks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class ClassAverages:
    """Hold means over classes.

    Attributes:
        precision: Mean precision, 0 to 1.
        recall: Mean recall, 0 to 1.
        f1: Mean of the F1 of the classes (not the F1 of the means), 0 to 1.
    """

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassificationMetrics:
    """Hold the metrics of N images that were classified into C classes.

    Attributes:
        classes: Names of the C classes.
        accuracy: Share of the images whose class was predicted.
        confusion: (C, C) int64, numbers of images by true class (row) and predicted class (column).
        precision: (C,) float64, share of the images predicted as a class that belong to it.
        recall: (C,) float64, share of the images of a class that were predicted as it.
        f1: (C,) float64, harmonic mean of precision and recall.
        support: (C,) int64, number of images of each class.
        macro: Unweighted means over all C classes, those without images included.
        weighted: Means over the classes, weighted by `support`.
    """

    classes: tuple[str, ...]
    accuracy: float
    confusion: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    macro: ClassAverages
    weighted: ClassAverages


@dataclass(frozen=True)
class MaskMetrics:
    """Hold the metrics of the foreground masks of N images.

    Attributes:
        mask_f1: F1 (Dice) of the foreground over all pixels of all images.
        mask_iou: Intersection over union (Jaccard) of the foreground over all pixels.
        image_f1: Mean of the F1 of each image, in which a small object counts as much as a large.
        image_iou: Mean of the IoU of each image.
    """

    mask_f1: float
    mask_iou: float
    image_f1: float
    image_iou: float


def evaluate_classification(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], classes: tuple[str, ...]
) -> ClassificationMetrics:
    """Compute accuracy, confusion, precision, recall and F1 of predicted classes.

    With n_ij images of class i that were predicted as class j:

        accuracy    = sum_i n_ii / N
        precision_c = n_cc / sum_i n_ic
        recall_c    = n_cc / sum_j n_cj
        F1_c        = 2 precision_c recall_c / (precision_c + recall_c)

    A metric that would divide by zero is 0: the precision of a class that was never predicted, the
    recall of a class without images, and the F1 of a class that is both. The metrics are those of
    scikit-learn's `classification_report` with `zero_division=0`.

    >>> truth, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    >>> found = evaluate_classification(predicted, truth, ("cat", "dog", "fox"))
    >>> found.accuracy, found.recall.tolist(), found.confusion.tolist()
    (0.5, [0.5, 1.0, 0.0], [[1, 1, 0], [0, 1, 0], [0, 1, 0]])

    Args:
        predicted: (N,) int64, class of each image, 0 to C - 1.
        truth: (N,) int64, true class of each image.
        classes: Names of the C classes.

    Raises:
        ValueError: There are no images, the lengths differ, or a value is no class.
    """
    if not len(truth) or predicted.shape != truth.shape:
        raise ValueError(
            f"`predicted` has shape {predicted.shape} and `truth` {truth.shape}: "
            "expected both to be of one length that is not 0"
        )
    for name, values in (("predicted", predicted), ("truth", truth)):
        outside = values[(values < 0) | (values >= len(classes))]
        if len(outside):
            raise ValueError(f"`{name}` holds {outside[0]}: expected 0 to {len(classes) - 1}")
    # scikit-learn takes seconds to import, and no training of people needs it.
    from sklearn.metrics import precision_recall_fscore_support

    labels = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0
    )
    columns = np.stack([precision, recall, f1])
    cells = np.bincount(truth * len(classes) + predicted, minlength=len(classes) ** 2)
    return ClassificationMetrics(
        classes=classes,
        accuracy=float(np.mean(predicted == truth)),
        confusion=cells.reshape(len(classes), len(classes)),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
        macro=ClassAverages(*columns.mean(axis=1).tolist()),
        weighted=ClassAverages(*np.average(columns, axis=1, weights=support).tolist()),
    )


def count_mask_pixels(predicted: Tensor, truth: Tensor) -> Tensor:
    """Count the pixels that mask metrics are computed from.

    Concatenate the rows of several batches or workers to evaluate them together.

    >>> predicted = torch.tensor([[[True, True], [False, False]]])
    >>> truth = torch.tensor([[[True, False], [False, False]]])
    >>> count_mask_pixels(predicted, truth).tolist()
    [[1, 2, 1]]

    Args:
        predicted: (N, H, W) bool, true in the foreground.
        truth: (N, H, W) bool, on the same device.

    Returns:
        (N, 3) int64, for each image the foreground pixels of both masks, of `predicted` and of
        `truth`.

    Raises:
        ValueError: The shapes differ, or an argument is not three-dimensional or not bool.
    """
    for name, masks in (("predicted", predicted), ("truth", truth)):
        if masks.ndim != 3 or masks.dtype != torch.bool:
            raise ValueError(
                f"`{name}` has shape {tuple(masks.shape)} and dtype {masks.dtype}: "
                "expected (N, H, W) bool"
            )
    if predicted.shape != truth.shape:
        raise ValueError(
            f"`predicted` has shape {tuple(predicted.shape)} and `truth` {tuple(truth.shape)}: "
            "expected the same"
        )
    columns = [masks.sum(dim=(1, 2)) for masks in (predicted & truth, predicted, truth)]
    return torch.stack(columns, dim=1)


def evaluate_masks(counts: NDArray[np.int64]) -> MaskMetrics:
    """Compute F1 and IoU of the foreground from counts of pixels.

    With P the predicted and T the true foreground:

        F1  = 2 |P & T| / (|P| + |T|)
        IoU = |P & T| / |P | T|

    `mask_*` metrics sum the pixels of all images first, `image_*` metrics are means over images.
    Where neither mask has a foreground, F1 and IoU are 1.

    >>> found = evaluate_masks(np.array([[1, 2, 1], [0, 0, 0]]))  # no foreground in the second
    >>> found.mask_iou, found.image_iou
    (0.5, 0.75)

    Args:
        counts: (N, 3) int64, as `count_mask_pixels` returns them.

    Raises:
        ValueError: There are no images.
    """
    if not len(counts):
        raise ValueError("`counts` has no rows: expected one for each image")
    f1, iou = _f1_and_iou(counts)
    all_f1, all_iou = _f1_and_iou(counts.sum(axis=0, keepdims=True))
    return MaskMetrics(float(all_f1[0]), float(all_iou[0]), float(f1.mean()), float(iou.mean()))


def _f1_and_iou(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return F1 (N,) and IoU (N,) of counts (N, 3)."""
    both, predicted, truth = counts.T
    either = predicted + truth - both
    ones = np.ones(len(counts))
    f1 = np.divide(2 * both, predicted + truth, out=ones.copy(), where=either > 0)
    return f1, np.divide(both, either, out=ones, where=either > 0)
