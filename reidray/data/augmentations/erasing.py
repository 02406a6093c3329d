"""Random erasing (Zhong et al. 2020)."""

from typing import ClassVar

import torch
from torch import Tensor

from reidray.config.options.built_in_augmentations import ErasingOptions
from reidray.data.augmentations.augmentation import Augmentation, register_augmentation
from reidray.data.augmentations.pixel_copies import fill_rectangles


@register_augmentation("erasing")
class Erasing(Augmentation):
    """Erase rectangles: (B, 4) top, left, height and width as shares; height 0 erases nothing."""

    order: ClassVar[int] = 90
    shared_draws: ClassVar[int] = 5

    @staticmethod
    def draw(options: ErasingOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw rectangles of 2 to 30 % of the area, with sides in a ratio of 0.3 to 3.3."""
        return draw_rectangles(options.probability, 0.02, 0.3, count, random)

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether any rectangle has a height."""
        return bool((parameters[:, 2] > 0).any())

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:
        """Fill each crop's rectangle, in place: the pixels whose centres lie in it."""
        fill_rectangles(images, parameters, fill)
        return images


def draw_rectangles(
    probability: float, least: float, most: float, count: int, random: torch.Generator
) -> Tensor:
    """Draw rectangles anywhere in crops, with sides in a ratio of 0.3 to 3.3.

    Args:
        probability: probability of a rectangle.
        least: smallest area, as a share of the crop.
        most: largest area, as a share of the crop.
        count: crops.
        random: generator of random numbers on the CPU.

    Returns:
        (count, 4) top, left, height and width as shares; height 0 without a rectangle.
    """
    happens, area, ratio, top, left = torch.rand(5, count, generator=random)
    area = least + area * (most - least)
    ratio = torch.exp((ratio * 2 - 1) * 1.2)
    height = (area * ratio).sqrt().clamp(max=1.0) * (happens < probability)
    width = (area / ratio).sqrt().clamp(max=1.0)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)
