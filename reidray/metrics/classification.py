"""How well images are classified and their foreground is drawn."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor


@dataclass(frozen=True)
class ClassAverages:
    """Means over the classes.

    Attributes:
        precision: in 0..1.
        recall: in 0..1.
        f1: mean of the classes' F1, not F1 of the means.
    """

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassificationMetrics:
    """How well N images were classified into C classes.

    Where a figure would divide by zero it is 0: the precision of a class that was never predicted,
    the recall of one that no image is of, and the F1 of one that is neither.

    Attributes:
        classes: the C names.
        accuracy: share of the images whose class was predicted.
        confusion: (C, C) int64, images by true class (row) and predicted class (column).
        precision: (C,) float64, share of the images predicted as a class that are of it.
        recall: (C,) float64, share of the images of a class that were predicted as it.
        f1: (C,) float64, harmonic mean of both.
        support: (C,) int64, images of each class.
        macro: mean over all C classes, each counted alike, those without images as well.
        weighted: mean over the classes, each counted by its images.
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
    """How well the foreground of N images was drawn.

    Where there is no foreground and none was predicted, F1 and IoU are 1: nothing was missed.

    Attributes:
        mask_f1: F1 (Dice) of the foreground over all pixels of all images.
        mask_iou: intersection over union (Jaccard) of the foreground, over all pixels as well.
        image_f1: mean of the F1 of each image, in which a small animal counts as much as a large.
        image_iou: mean of the IoU of each image.
    """

    mask_f1: float
    mask_iou: float
    image_f1: float
    image_iou: float


def evaluate_classification(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], classes: tuple[str, ...]
) -> ClassificationMetrics:
    """Accuracy, confusion, precision, recall and F1 of predicted classes.

    Args:
        predicted: (N,) int64, each 0 .. C - 1.
        truth: (N,) int64, as many.
        classes: the C names.

    Raises:
        ValueError: there are no images, the lengths differ, or a value is no class.
    """
    if not len(truth) or predicted.shape != truth.shape:
        raise ValueError(
            f"predicted has shape {predicted.shape} and truth {truth.shape}, "
            "expected both to be of one length that is not 0"
        )
    for name, values in (("predicted", predicted), ("truth", truth)):
        outside = values[(values < 0) | (values >= len(classes))]
        if len(outside):
            raise ValueError(f"{name} holds {outside[0]}, expected 0 to {len(classes) - 1}")
    labels = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0
    )
    columns = np.stack([precision, recall, f1])
    return ClassificationMetrics(
        classes=classes,
        accuracy=float(np.mean(predicted == truth)),
        confusion=confusion_matrix(truth, predicted, labels=labels).astype(np.int64),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
        macro=ClassAverages(*columns.mean(axis=1).tolist()),
        weighted=ClassAverages(*np.average(columns, axis=1, weights=support).tolist()),
    )


def count_mask_pixels(predicted: Tensor, truth: Tensor) -> Tensor:
    """What masks are judged by; the rows of batches and of workers are put one after another.

    Args:
        predicted: (N, H, W) bool, true where the foreground is.
        truth: (N, H, W) bool, on the same device.

    Returns:
        (N, 3) int64: for each image the foreground's pixels in both, in `predicted`, in `truth`.

    Raises:
        ValueError: the shapes differ, or an argument is not three-dimensional or not bool.
    """
    for name, masks in (("predicted", predicted), ("truth", truth)):
        if masks.ndim != 3 or masks.dtype != torch.bool:
            raise ValueError(
                f"{name} has shape {tuple(masks.shape)} and dtype {masks.dtype}, "
                "expected (N, H, W) bool"
            )
    if predicted.shape != truth.shape:
        raise ValueError(
            f"predicted has shape {tuple(predicted.shape)}, truth has {tuple(truth.shape)}"
        )
    columns = [masks.sum(dim=(1, 2)) for masks in (predicted & truth, predicted, truth)]
    return torch.stack(columns, dim=1)


def evaluate_masks(counts: NDArray[np.int64]) -> MaskMetrics:
    """F1 and IoU of the foreground.

    Args:
        counts: (N, 3) int64, as `count_mask_pixels` gives them.

    Raises:
        ValueError: there are no images.
    """
    if not len(counts):
        raise ValueError("counts has no rows, expected one for each image")
    f1, iou = _f1_and_iou(counts)
    all_f1, all_iou = _f1_and_iou(counts.sum(axis=0, keepdims=True))
    return MaskMetrics(float(all_f1[0]), float(all_iou[0]), float(f1.mean()), float(iou.mean()))


def _f1_and_iou(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both, predicted, truth = counts.T
    either = predicted + truth - both
    ones = np.ones(len(counts))
    f1 = np.divide(2 * both, predicted + truth, out=ones.copy(), where=either > 0)
    return f1, np.divide(both, either, out=ones, where=either > 0)
