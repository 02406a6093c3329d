"""Compute cross-entropies over people, classes, attributes and pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.built_in_losses import (
    AttributeLossOptions,
    IdentityLossOptions,
    LabelLossOptions,
    MaskLossOptions,
)
from reidray.losses.loss import LossSizes, Targets, register_loss
from reidray.models.networks.network import Outputs, PetOutputs


def label_loss(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the cross-entropy with label smoothing (Szegedy et al. 2016).

    Args:
        logits: (B, labels) float32; a label is a training person or a class.
        labels: (B,) int64.
        smoothing: share of the target spread over all labels, in 0..1.

    Returns:
        () float32, the mean over the batch.
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def attribute_loss(logits: tuple[Tensor, ...], labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the cross-entropy of each attribute, averaged over the attributes.

    Args:
        logits: logits of each of the A attributes, (B, values) float32.
        labels: (B, A) int64; -1 is unknown and ignored.
        smoothing: share of the target spread over all values, in 0..1.

    Returns:
        () float32; 0 where no label is known.
    """
    totals = [
        functional.cross_entropy(
            values.float(), column, ignore_index=-1, label_smoothing=smoothing, reduction="sum"
        )
        for values, column in zip(logits, labels.unbind(dim=1), strict=True)
    ]
    known = (labels >= 0).sum(dim=0).clamp(min=1)
    return (torch.stack(totals) / known).mean()


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the binary cross-entropy of each pixel.

    Args:
        logits: (B, 1, H, W) float32.
        masks: (B, H, W) uint8, 1 on the foreground and 0 elsewhere.

    Returns:
        () float32, the mean over the pixels.
    """
    return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), masks.float())


@register_loss("identity")
class IdentityLoss(nn.Module):
    """Compute the cross-entropy over the training people."""

    def __init__(self, options: IdentityLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.smoothing = options.smoothing

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor | None:
        """Return the loss, () float32; None without an identity classifier."""
        if not outputs.identity.shape[1]:
            return None
        return label_loss(outputs.identity, targets.person_indices, smoothing=self.smoothing)


@register_loss("attributes")
class AttributeLoss(nn.Module):
    """Compute the cross-entropy over the attributes."""

    def __init__(self, options: AttributeLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.smoothing = options.smoothing

    def forward(self, outputs: Outputs, targets: Targets) -> Tensor | None:
        """Return the loss, () float32; None where the network predicts no attributes."""
        if not outputs.attributes:
            return None
        return attribute_loss(outputs.attributes, targets.labels, smoothing=self.smoothing)


@register_loss("labels")
class LabelLoss(nn.Module):
    """Compute the cross-entropy over the class, or the attributes, of a multi-task network."""

    def __init__(self, options: LabelLossOptions, _: LossSizes) -> None:
        super().__init__()
        self.smoothing = options.smoothing

    def forward(self, outputs: Outputs | PetOutputs, targets: Targets) -> Tensor:
        """Return the loss, () float32."""
        if isinstance(outputs, PetOutputs):
            return attribute_loss((outputs.classes,), targets.labels, smoothing=self.smoothing)
        return attribute_loss(outputs.attributes, targets.labels, smoothing=self.smoothing)


@register_loss("masks")
class MaskLoss(nn.Module):
    """Compute the binary cross-entropy over the pixels of the masks."""

    def __init__(self, _: MaskLossOptions, __: LossSizes) -> None:
        super().__init__()

    def forward(self, outputs: PetOutputs, targets: Targets) -> Tensor | None:
        """Return the loss, () float32; None where the training has no masks."""
        return None if targets.masks is None else mask_loss(outputs.masks, targets.masks)
