"""Augment whole batches. Each augmentation registers itself by its name."""

from reidray.data.augmentations.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    AugmentPlan,
    register_augmentation,
    uniform,
)
from reidray.data.augmentations.batch_augmentation import (
    augment,
    augment_masks,
    image_tensor,
    plan_augmentation,
)

__all__ = [
    "AUGMENTATIONS",
    "AugmentPlan",
    "Augmentation",
    "augment",
    "augment_masks",
    "image_tensor",
    "plan_augmentation",
    "register_augmentation",
    "uniform",
]
