"""Choose the test images on which a pets network does best and worst."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from reidray.data.augmentations import image_tensor
from reidray.data.crop_labels import CropLabels
from reidray.data.images.crops import CropReader
from reidray.metrics.classification import evaluate_masks
from reidray.training.tasks.multitask.label_evaluation import (
    Mistake,
    MultitaskOutputs,
    confident_mistakes,
)

MASKS_PER_END = 4
"""Number of images with the best masks, and number of those with the worst."""

NUM_MISTAKES = 8


@dataclass(frozen=True, eq=False)
class MaskSample:
    """Hold the true and the predicted mask of a test image.

    Attributes:
        index: index of the image in the manifest.
        iou: intersection over union of the two foregrounds.
        crop: (H, W, 3) uint8.
        truth: (H, W) bool, with the border of a trimap in the foreground.
        predicted: (H, W) bool.
    """

    index: int
    iou: float
    crop: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    predicted: NDArray[np.bool_]


@dataclass(frozen=True)
class MaskSamples:
    """Hold the test images with the best masks and those with the worst, each in this order."""

    best: tuple[MaskSample, ...]
    worst: tuple[MaskSample, ...]


def choose_masks(
    network: nn.Module,
    crops: CropReader,
    outputs: MultitaskOutputs,
    labels: CropLabels,
    device: torch.device,
) -> MaskSamples | None:
    """Choose the images with the best and the worst predicted mask, by their own IoU.

    Args:
        network: network in evaluation mode, on `device`.
        crops: decoded images, with their true masks where the network predicts masks.
        outputs: outputs of the network for N images.
        labels: labels of the N images.
        device: device of the network.

    Returns:
        The images; None where the network predicts no masks.
    """
    counts = outputs.masks.numpy()[:, :3].astype(np.int64)
    if not counts.shape[1]:
        return None
    ious = np.array([evaluate_masks(row[None]).mask_iou for row in counts])
    order = np.argsort(-ious, kind="stable")
    best, others = order[:MASKS_PER_END], order[MASKS_PER_END:]
    chosen = np.concatenate([best, others[::-1][:MASKS_PER_END]])
    (group,) = crops.read([labels.indices[chosen]])
    assert group.masks is not None
    with torch.inference_mode():
        logits = network(image_tensor(group.crops, device)).masks[:, 0]
    samples = tuple(
        MaskSample(int(index), float(iou), crop, truth, predicted)
        for index, iou, crop, truth, predicted in zip(
            labels.indices[chosen],
            ious[chosen],
            group.crops,
            group.masks > 0,
            (logits > 0).cpu().numpy(),
            strict=True,
        )
    )
    return MaskSamples(samples[: len(best)], samples[len(best) :])


def most_confident_mistakes(outputs: MultitaskOutputs, labels: CropLabels) -> tuple[Mistake, ...]:
    """Return the wrong predictions of the highest probability, the highest first.

    Args:
        outputs: outputs of a network for N images.
        labels: labels of the N images.
    """
    return confident_mistakes(outputs, labels)[:NUM_MISTAKES]


def describe_samples(
    masks: MaskSamples | None,
    mistakes: tuple[Mistake, ...],
    paths: pa.ChunkedArray,
) -> dict[str, Any]:
    """Return the chosen images as plain values.

    Args:
        masks: the best and the worst masks; None without masks.
        mistakes: the most confident wrong predictions.
        paths: the paths of the images of the manifest, as strings.
    """
    ends = {} if masks is None else {"best_masks": masks.best, "worst_masks": masks.worst}
    return {
        **{
            name: [{"path": paths[each.index].as_py(), "iou": each.iou} for each in end]
            for name, end in ends.items()
        },
        "confident_mistakes": [
            {
                "path": paths[each.index].as_py(),
                "class": each.label,
                "predicted": each.predicted,
                "probability": each.probability,
            }
            for each in mistakes
        ],
    }
