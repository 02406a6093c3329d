"""Compute losses, with one module for each family. Each loss registers itself by its name."""

from reidray.losses.center_loss import center_loss, move_centers
from reidray.losses.circle_loss import circle_loss
from reidray.losses.contrastive_loss import supervised_contrastive_loss
from reidray.losses.cross_entropy import attribute_loss, label_loss, mask_loss
from reidray.losses.loss import (
    LOSSES,
    LossSizes,
    Targets,
    attach_losses,
    build_losses,
    compute_loss,
    loss_modules,
    register_loss,
    without_losses,
)
from reidray.losses.margin_softmax import arcface_logits, circle_softmax_logits, cosface_logits
from reidray.losses.triplet_loss import batch_hard_triplet_loss, semi_hard_triplet_loss

__all__ = [
    "LOSSES",
    "LossSizes",
    "Targets",
    "arcface_logits",
    "attach_losses",
    "attribute_loss",
    "batch_hard_triplet_loss",
    "build_losses",
    "center_loss",
    "circle_loss",
    "circle_softmax_logits",
    "compute_loss",
    "cosface_logits",
    "label_loss",
    "loss_modules",
    "mask_loss",
    "move_centers",
    "register_loss",
    "semi_hard_triplet_loss",
    "supervised_contrastive_loss",
    "without_losses",
]
