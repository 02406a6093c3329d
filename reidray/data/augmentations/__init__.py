"""Augment whole batches. Each augmentation registers itself by its name."""

from reidray.data.augmentations.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    AugmentPlan,
    PastingAugmentation,
    register_augmentation,
    uniform,
)
from reidray.data.augmentations.batch_augmentation import (
    augment,
    augment_masks,
    augmentations_on,
    draw_donors,
    image_crops,
    image_tensor,
    plan_augmentation,
)

__all__ = [
    "AUGMENTATIONS",
    "AugmentPlan",
    "Augmentation",
    "PastingAugmentation",
    "augment",
    "augment_masks",
    "augmentations_on",
    "draw_donors",
    "image_crops",
    "image_tensor",
    "plan_augmentation",
    "register_augmentation",
    "uniform",
]
