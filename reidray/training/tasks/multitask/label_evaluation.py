"""What a multi-task network outputs, and how good that is."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.config import MultitaskLossConfig
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.images.crops import CropReader, Indices
from reidray.data.images.transforms import image_tensor
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

BATCH = 64

Figures = dict[str, Any]


@dataclass(frozen=True)
class Labelling:
    """What there is to say of an image.

    Attributes:
        classes: names of the classes; empty where attributes are said.
        schema: the attributes; empty where a class is said.
        masks: whether a mask is drawn.
        majority: (L,) int64, for each label the most frequent value of the training images.
    """

    classes: tuple[str, ...]
    schema: AttributeSchema
    masks: bool
    majority: NDArray[np.int64]


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels; both arrays run over the same N images.

    Attributes:
        rows: (N,) int64, their rows in the manifest.
        labels: (N, L) int64, -1 where unknown: the class, or a code for each attribute.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]

    def take(self, keep: NDArray[np.bool_]) -> "LabelledImages":
        """Some of the images."""
        return LabelledImages(self.rows[keep], self.labels[keep])


@dataclass(frozen=True)
class NetworkOutputs:
    """What a network says of N images.

    Attributes:
        logits: for each of L labels (N, values) float32.
        masks: (N, 4) float64 of each drawn mask: the foreground's pixels in both, in what was
            drawn, in truth, and the mean cross-entropy of all pixels. (N, 0) where none is drawn.
        seconds: spent in the network.
    """

    logits: tuple[Tensor, ...]
    masks: Tensor
    seconds: float

    def gathered(self, context: DistributedContext, total: int) -> "NetworkOutputs":
        """The outputs of all ranks, of which rank r gave those to the images r, r + world, ..."""
        logits = tuple(context.gather_for_metrics(values, total).cpu() for values in self.logits)
        return replace(
            self, logits=logits, masks=context.gather_for_metrics(self.masks, total).cpu()
        )


@dataclass(frozen=True)
class LabelEvaluation:
    """How good the outputs to N images are.

    Attributes:
        images: N.
        seconds: that the network took for all of them.
        summary: a figure each: `validation_loss`, then `accuracy`, `macro_f1`, `weighted_f1` of
            classes, `mask_f1`, `mask_iou`, `image_iou` of masks, those of `attribute_accuracy`.
        labels: the figures of each label by its name; a class is called `class`.
    """

    images: int
    seconds: float
    summary: Figures
    labels: dict[str, ClassificationMetrics]

    def to_json(self) -> Figures:
        """All figures as plain values."""
        labels = {
            name: {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in asdict(figures).items()
            }
            for name, figures in self.labels.items()
        }
        return {"images": self.images, "seconds": self.seconds, **self.summary, "labels": labels}


def label_logits(outputs: Outputs | PetOutputs) -> tuple[Tensor, ...]:
    """What a network says of each label, (B, values) float32 each."""
    return (outputs.classes,) if isinstance(outputs, PetOutputs) else outputs.attributes


def run_network(
    network: nn.Module, source: CropReader, rows: Indices, device: torch.device
) -> NetworkOutputs:
    """Ask a network about images, batch by batch.

    Args:
        network: in evaluation mode, on `device`.
        source: has the images, and their true masks where masks are drawn.
        rows: (N,) int64, rows of the manifest.
        device: where the network computes.
    """
    said: list[tuple[Tensor, ...]] = []
    drawn: list[Tensor] = []
    seconds = 0.0
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with torch.inference_mode():
        for group in source.read(batches):
            asked = image_tensor(group.crops, device)
            begun = time.perf_counter()
            outputs = network(asked)
            said.append(tuple(values.float() for values in label_logits(outputs)))
            counts = torch.zeros((len(asked), 0), dtype=torch.float64, device=device)
            if group.masks is not None:
                truth = torch.from_numpy(group.masks).to(device)
                counts = _compare_masks(outputs.masks[:, 0].float(), truth)
            drawn.append(counts)
            seconds += time.perf_counter() - begun
    return NetworkOutputs(
        tuple(torch.cat(parts) for parts in zip(*said, strict=True)), torch.cat(drawn), seconds
    )


def evaluate_outputs(
    outputs: NetworkOutputs,
    truth: LabelledImages,
    labelling: Labelling,
    losses: MultitaskLossConfig,
) -> LabelEvaluation:
    """How good a network's outputs to N images are.

    Args:
        outputs: to all N images, on the CPU.
        truth: the N images.
        labelling: what there was to say.
        losses: the weights of the losses.
    """
    labels = torch.from_numpy(truth.labels)
    loss = losses.labels * float(attribute_loss(outputs.logits, labels, smoothing=0.0))
    predicted = torch.stack([v.argmax(dim=1) for v in outputs.logits], dim=1).numpy()
    by_label = _judge_labels(predicted, truth.labels, labelling)
    summary: Figures = {}
    if labelling.classes:
        figures = by_label["class"]
        summary |= {
            "accuracy": figures.accuracy,
            "macro_f1": figures.macro.f1,
            "weighted_f1": figures.weighted.f1,
        }
    else:
        codes = truth.labels.astype(np.int8)
        summary |= attribute_accuracy(predicted, codes, labelling.schema, labelling.majority)
    if labelling.masks:
        loss += losses.masks * float(outputs.masks[:, 3].mean())
        drawn = evaluate_masks(outputs.masks[:, :3].numpy().astype(np.int64))
        summary |= {key: getattr(drawn, key) for key in ("mask_f1", "mask_iou", "image_iou")}
    return LabelEvaluation(
        len(truth.rows), outputs.seconds, {"validation_loss": loss, **summary}, by_label
    )


def evaluate_network(
    network: nn.Module,
    source: CropReader,
    truth: LabelledImages,
    labelling: Labelling,
    losses: MultitaskLossConfig,
    device: torch.device,
) -> LabelEvaluation:
    """How good a network is on N images, in this process.

    Args:
        network: in evaluation mode, on `device`.
        source: has the images.
        truth: the N images.
        labelling: what there is to say.
        losses: the weights of the losses.
        device: where the network computes.
    """
    outputs = run_network(network, source, truth.rows, device)
    return evaluate_outputs(
        outputs.gathered(DistributedContext(device=device), len(truth.rows)),
        truth,
        labelling,
        losses,
    )


def _compare_masks(logits: Tensor, truth: Tensor) -> Tensor:
    """Of each of B masks (B, H, W) the four figures of `NetworkOutputs.masks`."""
    entropy = nn.functional.binary_cross_entropy_with_logits(
        logits, truth.float(), reduction="none"
    )
    counts = count_mask_pixels(logits > 0, truth > 0).double()
    return torch.cat([counts, entropy.mean(dim=(1, 2))[:, None].double()], dim=1)


def _judge_labels(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], labelling: Labelling
) -> dict[str, ClassificationMetrics]:
    """Figures of each label over the images where it is known."""
    schema = labelling.schema
    named = [("class", labelling.classes)] if labelling.classes else []
    named += [(attribute.name, attribute.values) for attribute in schema.attributes]
    found = {}
    for column, (name, values) in enumerate(named):
        known = truth[:, column] >= 0
        if known.any():
            found[name] = evaluate_classification(
                predicted[known, column], truth[known, column], values
            )
    return found
