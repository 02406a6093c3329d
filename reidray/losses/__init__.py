"""Compute losses, with one module for each family. Each loss registers itself by its name."""

from reidray.losses.cross_entropy import attribute_loss, label_loss, mask_loss
from reidray.losses.loss import (
    LOSSES,
    LossSizes,
    Targets,
    attach_losses,
    build_losses,
    loss_modules,
    register_loss,
    without_losses,
)
from reidray.losses.triplet_loss import batch_hard_triplet_loss, semi_hard_triplet_loss

__all__ = [
    "LOSSES",
    "LossSizes",
    "Targets",
    "attach_losses",
    "attribute_loss",
    "batch_hard_triplet_loss",
    "build_losses",
    "label_loss",
    "loss_modules",
    "mask_loss",
    "register_loss",
    "semi_hard_triplet_loss",
    "without_losses",
]
