"""Change the colours of images, in the order contrast, brightness, saturation and hue."""

from typing import ClassVar

import torch
from torch import Tensor

from reidray.config.options.built_in_augmentations import (
    BrightnessOptions,
    ContrastOptions,
    HueOptions,
    SaturationOptions,
)
from reidray.data.augmentations.augmentation import Augmentation, register_augmentation, uniform

LUMA = (0.2989, 0.587, 0.114)
"""Luma weights of red, green and blue (ITU-R BT.601), as torchvision rounds them."""


class ColourFactor(Augmentation):
    """Draw the (B,) factors of a change in colour, which are near 1; a subclass applies them."""

    shared_draws: ClassVar[int] = 1
    parameters_on_device: ClassVar[bool] = True
    neutral: ClassVar[float | None] = 1

    @staticmethod
    def draw(
        options: BrightnessOptions | ContrastOptions | SaturationOptions,
        count: int,
        random: torch.Generator,
    ) -> Tensor:
        """Draw the parameters."""
        return 1 + uniform(options.share, count, random)


@register_augmentation("brightness")
class Brightness(ColourFactor):
    """Change the brightness: (B,) factors."""

    order: ClassVar[int] = 20

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images with other colours."""
        return adjust_brightness(images, parameters)


@register_augmentation("contrast")
class Contrast(ColourFactor):
    """Change the contrast: (B,) factors."""

    order: ClassVar[int] = 10

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images with other colours."""
        return adjust_contrast(images, parameters)


@register_augmentation("saturation")
class Saturation(ColourFactor):
    """Change the saturation: (B,) factors; 0 leaves grey."""

    order: ClassVar[int] = 30

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images with other colours."""
        return adjust_saturation(images, parameters)


@register_augmentation("hue")
class Hue(Augmentation):
    """Turn the hue: (B,) shares of the colour circle, from red to green to blue."""

    order: ClassVar[int] = 40
    shared_draws: ClassVar[int] = 1
    parameters_on_device: ClassVar[bool] = True
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: HueOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return uniform(options.share, count, random)

    @staticmethod
    def apply(images: Tensor, parameters: Tensor, fill: float) -> Tensor:  # noqa: ARG004
        """Return the images with other colours."""
        return _turn_hue(images, parameters)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Return images (B, 3, H, W) that are brighter by (B,) factors."""
    return (images * factors.view(-1, 1, 1, 1)).clamp(0, 255)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Return images (B, 3, H, W) whose contrast has grown by (B,) factors."""
    return _blend(images, luminance(images).mean(dim=(2, 3), keepdim=True), factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Return images (B, 3, H, W) whose saturation has grown by (B,) factors."""
    return _blend(images, luminance(images), factors)


def luminance(images: Tensor) -> Tensor:
    """Return the luminance of each pixel, (B, 1, H, W)."""
    red, green, blue = (weight * images[:, c : c + 1] for c, weight in enumerate(LUMA))
    return red + green + blue


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    """Return `factor * images + (1 - factor) * others`; a factor of 1 changes no bit."""
    factor = factor.view(-1, 1, 1, 1)
    return (images * factor + others * (1 - factor)).clamp(0, 255)


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of (B, 3, H, W), in the HSV model (Smith 1978), by (B,) shares of the circle."""
    red, green, blue = images.unbind(dim=1)
    value, chroma = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    spread = chroma.clamp(min=1e-9)
    sextant = torch.where(
        value == red,
        (green - blue) / spread,
        torch.where(value == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    sextant = sextant + 6 * turn.view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):
        place = (sextant + offset) % 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=-1).permute(0, 3, 1, 2)
