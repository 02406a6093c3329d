"""Turn whole crops, or rectangles of crops, grey (Gong et al. 2021).

The paper is "A Person Re-identification Data Augmentation Method with Adversarial Defense Effect".
A network that must do without colours in places relies less on the colours of clothes.
"""

from typing import ClassVar

import torch
from torch import Tensor

from reidray.config.options.built_in_augmentations import GrayscaleOptions, LocalGrayscaleOptions
from reidray.data.augmentations.augmentation import Augmentation, register_augmentation
from reidray.data.augmentations.colour_changes import luminance
from reidray.data.augmentations.erasing import draw_rectangles
from reidray.data.augmentations.pixel_copies import inside_rectangles


@register_augmentation("grayscale")
class Grayscale(Augmentation):
    """Turn crops grey: (B,) bool."""

    order: ClassVar[int] = 50
    parameters_on_device: ClassVar[bool] = True
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: GrayscaleOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.rand(count, generator=random) < options.probability

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images, the chosen ones with their luminance in all channels."""
        return torch.where(parameters.view(-1, 1, 1, 1), luminance(images), images)


@register_augmentation("local_grayscale")
class LocalGrayscale(Augmentation):
    """Turn rectangles grey: (B, 4) top, left, height and width as shares; height 0 turns none."""

    order: ClassVar[int] = 55

    @staticmethod
    def draw(options: LocalGrayscaleOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw rectangles of 2 to 40 % of the area, as the paper does."""
        return draw_rectangles(options.probability, 0.02, 0.4, count, random)

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether any rectangle has a height."""
        return bool((parameters[:, 2] > 0).any())

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images with the luminance in the pixels whose centres lie in a rectangle."""
        return torch.where(inside_rectangles(images, parameters), luminance(images), images)
