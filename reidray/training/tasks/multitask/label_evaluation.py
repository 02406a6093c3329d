"""Evaluate the classes, attributes and masks that a multi-task network predicts."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.config import MultitaskLossConfig
from reidray.config.sections.validation_options import compute_registered_metrics
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import CopiedCrops, DeviceCrops
from reidray.data.images.crops import CropReader, Indices
from reidray.losses import attribute_loss
from reidray.metrics.attribute_metrics import attribute_accuracy
from reidray.metrics.classification import (
    ClassificationMetrics,
    count_mask_pixels,
    evaluate_classification,
    evaluate_masks,
)
from reidray.models.networks import Outputs, PetOutputs
from reidray.training.distributed_context import DistributedContext

BATCH_SIZE = 64

MISTAKES, MIN_MISTAKES = 24, 4
"""Mistakes of all targets together that an evaluation keeps, but at least so many of each."""


@dataclass(frozen=True)
class MultitaskOutputs:
    """Hold the outputs of a network for N images.

    Attributes:
        logits: (N, V) float32 for each of the L targets, with V values each.
        masks: (N, 5) float64 for each predicted mask: foreground pixels in the prediction and the
            truth, in the prediction, and in the truth, the mean cross-entropy of all pixels, and
            the share of the pixels that are correct. (N, 0) where the network predicts no masks.
        seconds: time in the network.
    """

    logits: tuple[Tensor, ...]
    masks: Tensor
    seconds: float

    def gather(self, context: DistributedContext, total: int) -> "MultitaskOutputs | None":
        """Return the outputs of all ranks on rank 0; None on the other ranks.

        Args:
            context: this process, with the images that `DistributedContext.own_share` gives it.
            total: number of images of all ranks.
        """
        logits = [context.gather_for_metrics(each, total) for each in self.logits]
        masks = context.gather_for_metrics(self.masks, total)
        if masks is None:
            return None
        gathered = tuple(each for each in logits if each is not None)
        return replace(self, logits=gathered, masks=masks)

    def cpu(self) -> "MultitaskOutputs":
        """Return the outputs on the CPU."""
        logits = tuple(each.cpu() for each in self.logits)
        return replace(self, logits=logits, masks=self.masks.cpu())


@dataclass(frozen=True)
class Mistake:
    """Hold a wrong prediction of a network.

    Attributes:
        index: row of the image in the manifest.
        target: name of the target: `class`, or an attribute.
        label: name of the true value, as the data gives it.
        predicted: name of the predicted value.
        probability: probability of the predicted value, in 0..1.
    """

    index: int
    target: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class LabelEvaluation:
    """Hold the metrics of a network on N images.

    Attributes:
        images: N.
        seconds: time in the network.
        summary: metrics by name: `validation_loss`; for classes `accuracy`, `macro_f1` and
            `weighted_f1`; for masks `mask_accuracy`, `mask_f1`, `mask_iou` and `image_iou`; for
            attributes those of `attribute_accuracy`.
        labels: metrics of each target by its name; the target of classes is `class`.
        mistakes: the most confident wrong predictions, where they are asked for.
    """

    images: int
    seconds: float
    summary: dict[str, Any]
    labels: dict[str, ClassificationMetrics]
    mistakes: tuple[Mistake, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all metrics as plain values."""
        labels = {
            name: {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in asdict(metrics).items()
            }
            for name, metrics in self.labels.items()
        }
        return {"images": self.images, "seconds": self.seconds, **self.summary, "labels": labels}


def target_logits(outputs: Outputs | PetOutputs) -> tuple[Tensor, ...]:
    """Return the logits of each target, (B, V) float32 each."""
    return (outputs.classes,) if isinstance(outputs, PetOutputs) else outputs.attributes


def run_network(
    network: nn.Module, crops: DeviceCrops, indices: Indices, device: torch.device
) -> MultitaskOutputs:
    """Run a network on images, batch by batch.

    Args:
        network: network in evaluation mode, on `device`.
        crops: decoded images on `device`, with their true masks where the network predicts masks.
        indices: (N,) int64, rows of the manifest.
        device: device of the network.
    """
    logits: list[tuple[Tensor, ...]] = []
    masks: list[Tensor] = []
    timer = _Timer(device)
    batches = [indices[start : start + BATCH_SIZE] for start in range(0, len(indices), BATCH_SIZE)]
    with torch.inference_mode():
        for batch in crops.read(batches):
            timer.mark()
            outputs = network(batch.images)
            logits.append(tuple(values.float() for values in target_logits(outputs)))
            counts = torch.zeros((len(batch.images), 0), dtype=torch.float64, device=device)
            if batch.masks is not None:
                counts = _compare_masks(outputs.masks[:, 0].float(), batch.masks)
            masks.append(counts)
            timer.mark()
    return MultitaskOutputs(
        tuple(torch.cat(parts) for parts in zip(*logits, strict=True)),
        torch.cat(masks),
        timer.seconds(),
    )


def evaluate_outputs(
    outputs: MultitaskOutputs,
    labels: CropLabels,
    majority: NDArray[np.int64],
    weights: MultitaskLossConfig,
) -> LabelEvaluation:
    """Compute the metrics of a network from its outputs for N images.

    Args:
        outputs: outputs for all N images, on the CPU.
        labels: true labels of the N images.
        majority: (A,) int64, most frequent label of each attribute in the training images; A is 0
            where the network predicts a class.
        weights: weights of the losses.
    """
    targets = torch.from_numpy(labels.targets).long()
    loss = weights.labels * float(attribute_loss(outputs.logits, targets, smoothing=0.0))
    predicted = torch.stack([v.argmax(dim=1) for v in outputs.logits], dim=1).numpy()
    by_target = _evaluate_targets(predicted, labels)
    summary: dict[str, Any] = {}
    if labels.classes:
        metrics = by_target["class"]
        summary |= {
            "accuracy": metrics.accuracy,
            "macro_f1": metrics.macro.f1,
            "weighted_f1": metrics.weighted.f1,
        }
    else:
        summary |= attribute_accuracy(predicted, labels.attribute_labels, labels.schema, majority)
    if outputs.masks.shape[1]:
        loss += weights.masks * float(outputs.masks[:, 3].mean())
        masks = evaluate_masks(outputs.masks[:, :3].numpy().astype(np.int64))
        summary["mask_accuracy"] = float(outputs.masks[:, 4].mean())
        summary |= {key: getattr(masks, key) for key in ("mask_f1", "mask_iou", "image_iou")}
    evaluation = LabelEvaluation(
        len(labels), outputs.seconds, {"validation_loss": loss, **summary}, by_target
    )
    own = compute_registered_metrics(evaluation, "multitask")
    return replace(evaluation, summary=evaluation.summary | own)


def evaluate_network(
    network: nn.Module,
    crops: CropReader,
    labels: CropLabels,
    majority: NDArray[np.int64],
    weights: MultitaskLossConfig,
    device: torch.device,
) -> LabelEvaluation:
    """Run a network on N images in this process, and compute its metrics.

    Args:
        network: network in evaluation mode, on `device`.
        crops: decoded images.
        labels: true labels of the N images.
        majority: (A,) int64, most frequent label of each attribute in the training images; A is 0
            where the network predicts a class.
        weights: weights of the losses.
        device: device of the network.
    """
    outputs = run_network(network, CopiedCrops(crops, device), labels.indices, device).cpu()
    evaluation = evaluate_outputs(outputs, labels, majority, weights)
    return replace(evaluation, mistakes=confident_mistakes(outputs, labels))


def confident_mistakes(outputs: MultitaskOutputs, labels: CropLabels) -> tuple[Mistake, ...]:
    """Return the wrong predictions with the highest probability: images that look mislabelled.

    Args:
        outputs: outputs for all N images, on the CPU.
        labels: labels of the N images. Of a known person each target shows one image.

    Returns:
        The mistakes by target, those with the highest probability first; several of each target.
    """
    targets = labels.target_values
    most = max(MISTAKES // len(targets), MIN_MISTAKES)
    found = []
    for column, (name, values) in enumerate(targets.items()):
        truth = labels.targets[:, column]
        highest = torch.softmax(outputs.logits[column], dim=1).max(dim=1)
        probabilities, predicted = highest.values.numpy(), highest.indices.numpy()
        wrong = np.flatnonzero((truth >= 0) & (predicted != truth))
        wrong = wrong[np.argsort(-probabilities[wrong], kind="stable")]
        people = labels.person_ids[wrong]
        identities = np.where(people >= 0, people, -1 - wrong)  # an unknown person is one image
        _, first = np.unique(identities, return_index=True)
        found += [
            Mistake(
                int(labels.indices[row]),
                name,
                values[truth[row]],
                values[predicted[row]],
                float(probabilities[row]),
            )
            for row in wrong[np.sort(first)[:most]].tolist()
        ]
    return tuple(found)


class _Timer:
    """Measure the time of some work on a device. On a GPU no step waits for its end."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._is_gpu = device, device.type == "cuda"
        self._marks: list[Any] = []

    def seconds(self) -> float:
        """Return the seconds of all work, and wait for its end on a GPU."""
        spans = zip(self._marks[::2], self._marks[1::2], strict=True)
        if not self._is_gpu:
            return float(sum(end - start for start, end in spans))
        if self._marks:
            self._marks[-1].synchronize()
        return float(sum(start.elapsed_time(end) for start, end in spans)) / 1000

    def mark(self) -> None:
        """Mark the begin of some work, or its end."""
        if not self._is_gpu:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)


def _compare_masks(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the five values of `MultitaskOutputs.masks` for B masks, (B, H, W) each."""
    entropy = nn.functional.binary_cross_entropy_with_logits(
        logits, truth.float(), reduction="none"
    )
    predicted, foreground = logits > 0, truth > 0
    counts = count_mask_pixels(predicted, foreground)
    means = [each.mean(dim=(1, 2)) for each in (entropy, (predicted == foreground).float())]
    return torch.cat([counts.double(), torch.stack(means, dim=1).double()], dim=1)


def _evaluate_targets(
    predicted: NDArray[np.int64], labels: CropLabels
) -> dict[str, ClassificationMetrics]:
    """Return the metrics of each target over the images where it is known."""
    by_target = {}
    for column, (name, values) in enumerate(labels.target_values.items()):
        truth = labels.targets[:, column].astype(np.int64)
        known = truth >= 0
        if known.any():
            by_target[name] = evaluate_classification(
                predicted[known, column], truth[known], values
            )
    return by_target
