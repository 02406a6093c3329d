"""RandAugment (Cubuk et al. 2020) and AutoAugment (Cubuk et al. 2019).

Each crop draws operations and their values on the CPU. Those that move pixels join the resampling
of all other moves, so that a crop is resampled once and its mask follows. The others then change
values of pixels in the order in which they were drawn.
"""

from typing import ClassVar

import torch
from torch import Tensor

from reidray.config.options.built_in_augmentations import AutoAugmentOptions, RandAugmentOptions
from reidray.data.augmentations.augmentation import Augmentation, register_augmentation
from reidray.data.augmentations.operations import Operation, operation_values
from reidray.data.augmentations.pixel_operations import apply_pixel_operations

RAND_MAGNITUDES = 30
"""The largest magnitude of RandAugment."""

RAND_OPERATIONS = tuple(each for each in Operation if each != Operation.INVERT)
"""The 14 operations of RandAugment."""

IMAGENET_POLICY = """
    posterize 0.4 8      rotate 0.6 9
    solarize 0.6 5       auto_contrast 0.6 0
    equalize 0.8 0       equalize 0.6 0
    posterize 0.6 7      posterize 0.6 6
    equalize 0.4 0       solarize 0.2 4
    equalize 0.4 0       rotate 0.8 8
    solarize 0.6 3       equalize 0.6 0
    posterize 0.8 5      equalize 1.0 0
    rotate 0.2 3         solarize 0.6 8
    equalize 0.6 0       posterize 0.4 6
    rotate 0.8 8         color 0.4 0
    rotate 0.4 9         equalize 0.6 0
    equalize 0.0 0       equalize 0.8 0
    invert 0.6 0         equalize 1.0 0
    color 0.6 4          contrast 1.0 8
    rotate 0.8 8         color 1.0 2
    color 0.8 8          solarize 0.8 7
    sharpness 0.4 7      invert 0.6 0
    shear_x 0.6 5        equalize 1.0 0
    color 0.4 0          equalize 0.6 0
    equalize 0.4 0       solarize 0.2 4
    solarize 0.6 5       auto_contrast 0.6 0
    invert 0.6 0         equalize 1.0 0
    color 0.6 4          contrast 1.0 8
    equalize 0.8 0       equalize 0.6 0
"""
"""The sub-policies that the paper found for ImageNet: two operations each, with the probability and
the magnitude in 0..9 of each."""

IMAGENET_MAGNITUDES = 9


class OperationPolicy(Augmentation):
    """Apply operations to crops: (B, N, 2) float32 numbers and values of the operations."""

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether any operation changes a crop."""
        return bool((parameters[..., 0] != Operation.IDENTITY).any())

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Change values of pixels, in place."""
        apply_pixel_operations(images, parameters)
        return images


@register_augmentation("rand_augment")
class RandAugment(OperationPolicy):
    """Apply N of 14 operations to each crop, each at the same magnitude (Cubuk et al. 2020)."""

    order: ClassVar[int] = 4

    @staticmethod
    def draw(options: RandAugmentOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the operations, with replacement, and the way of those that go either way."""
        level = options.magnitude / RAND_MAGNITUDES
        values = torch.tensor([operation_values(each, level) for each in RAND_OPERATIONS])
        place, way = torch.rand(2, count, options.operations, generator=random)
        chosen = (place * len(RAND_OPERATIONS)).long()
        numbers = torch.tensor([float(each) for each in RAND_OPERATIONS])[chosen]
        return torch.stack([numbers, values[chosen, (way < 0.5).long()]], dim=2)


@register_augmentation("auto_augment")
class AutoAugment(OperationPolicy):
    """Apply one of 25 sub-policies, found for ImageNet, to some crops (Cubuk et al. 2019)."""

    order: ClassVar[int] = 5

    @staticmethod
    def draw(options: AutoAugmentOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the crops, their sub-policies, and which operations of them happen, and how."""
        numbers, probabilities, values = _parse_policy(IMAGENET_POLICY)
        place, applies = torch.rand(2, count, generator=random)
        happens, way = torch.rand(2, count, 2, generator=random)
        chosen = (place * len(numbers)).long()
        happens = (happens < probabilities[chosen]) & (applies < options.probability)[:, None]
        way_values = torch.where(way < 0.5, values[chosen, :, 1], values[chosen, :, 0])
        return torch.stack([numbers[chosen] * happens, way_values * happens], dim=2)


def _parse_policy(policy: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the numbers (S, 2), probabilities (S, 2) and values (S, 2, 2) of a policy.

    The values are those of either way.
    """
    words = policy.split()
    operations = [Operation[name.upper()] for name in words[::3]]
    levels = [int(magnitude) / IMAGENET_MAGNITUDES for magnitude in words[2::3]]
    pairs = zip(operations, levels, strict=True)
    values = torch.tensor([operation_values(operation, level) for operation, level in pairs])
    return (
        torch.tensor([float(each) for each in operations]).view(-1, 2),
        torch.tensor([float(word) for word in words[1::3]]).view(-1, 2),
        values.view(-1, 2, 2),
    )
