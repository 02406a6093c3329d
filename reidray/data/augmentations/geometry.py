"""Augmentations that move pixels: all of them in one resampling.

A crop is mirrored, sheared, zoomed, rotated and shifted, in this order, about its centre; then a
window is cut out of it and fills it again.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from reidray.config.sections.augmentation_options import (
    CropOptions,
    FlipOptions,
    RotationOptions,
    ShearOptions,
    ShiftOptions,
    ZoomOptions,
)
from reidray.data.augmentations.augmentation import (
    Augmentation,
    AugmentPlan,
    register_augmentation,
    uniform,
)


@register_augmentation("flip")
class Flip(Augmentation):
    """Mirror crops left and right: (B,) bool."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: FlipOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.rand(count, generator=random) < options.probability


@register_augmentation("rotation")
class Rotation(Augmentation):
    """Rotate crops: (B,) radians, clockwise."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: RotationOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.deg2rad(uniform(options.degrees, count, random))


@register_augmentation("shear")
class Shear(Augmentation):
    """Shear crops: (B,) tangents of the shear angle along x."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: ShearOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.tan(torch.deg2rad(uniform(options.degrees, count, random)))


@register_augmentation("zoom")
class Zoom(Augmentation):
    """Zoom crops: (B,) factors; 1 keeps the size."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: ZoomOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return 1 + uniform(options.share, count, random)


@register_augmentation("shift")
class Shift(Augmentation):
    """Shift crops: (B, 2) along x and y, as shares of the width and the height."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: ShiftOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return uniform(options.share, count, random, 2)


@register_augmentation("crop")
class Crop(Augmentation):
    """Cut windows out of crops: (B, 4) top, left, height and width as shares of the crop."""

    shares_draws: ClassVar[bool] = True

    @staticmethod
    def draw(options: CropOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw windows that lack up to a share of the height and of the width, anywhere."""
        lost_height, lost_width, top, left = torch.rand(4, count, generator=random)
        height, width = 1 - options.share * lost_height, 1 - options.share * lost_width
        return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)


def move(images: Tensor, plan: AugmentPlan, fill: float, resampling: str) -> Tensor:
    """Mirror and move each of (B, C, H, W) uint8; crops that only shift move by whole pixels."""
    if bool(plan["flip"].any()):
        mirrored = images.flip(3)
        sides = zip(plan["flip"].tolist(), images, mirrored, strict=True)
        images = _stacked([mirror if flip else image for flip, image, mirror in sides])
    resampled = (plan["rotation"] != 0) | (plan["shear"] != 0) | (plan["zoom"] != 1)
    resampled |= (plan["crop"][:, 2:] != 1).any(dim=1)
    if bool(resampled.any()):
        return _warp(images.float(), plan.to(images.device), fill, resampling)
    return _shift(images, plan["shift"], fill) if bool(plan["shift"].any()) else images.float()


def _shift(images: Tensor, shift: Tensor, fill: float) -> Tensor:
    """Shift each crop by whole pixels."""
    height, width = images.shape[2:]
    moves = (shift.cpu() * torch.tensor([width, height])).round().long()
    pad_x, pad_y = moves.abs().amax(dim=0).tolist()
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    moved = _stacked(
        [
            image[:, pad_y - y : pad_y - y + height, pad_x - x : pad_x - x + width]
            for image, (x, y) in zip(padded, moves.tolist(), strict=True)
        ]
    ).float()
    for image, (x, y) in zip(moved, moves.tolist(), strict=True):
        if x:
            image[:, :, _moved_in(x)] = fill
        if y:
            image[:, _moved_in(y)] = fill
    return moved


def _moved_in(move: int) -> slice:
    """Return the slice of the pixels that a move brings in from outside."""
    return slice(0, move) if move > 0 else slice(move, None)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """Return images (C, H, W) as one batch, the channels last in memory."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def _warp(images: Tensor, plan: AugmentPlan, fill: float, resampling: str) -> Tensor:
    """Resample each image through its own affine map."""
    height, width = images.shape[2:]
    grid = functional.affine_grid(
        _sources(plan, height / width), list(images.shape), align_corners=False
    )
    moved = functional.grid_sample(
        images - fill, grid, mode=resampling, padding_mode="zeros", align_corners=False
    )
    return (moved + fill).clamp(0, 255)


def _sources(plan: AugmentPlan, aspect: float) -> Tensor:
    """Return the affine maps, (B, 2, 3) float32, from augmented crops to the crops.

    Coordinates run from -1 to 1 along both sides. `aspect` is height divided by width.
    """
    cosine, sine, shear = torch.cos(plan["rotation"]), torch.sin(plan["rotation"]), plan["shear"]
    # The inverse of rotation times shear, [[cos, -sin], [sin, cos]] [[1, -shear], [0, 1]].
    row_x = [cosine - shear * sine, (sine + shear * cosine) * aspect]
    row_y = [-sine / aspect, cosine]
    turn = torch.stack([torch.stack(row_x, dim=1), torch.stack(row_y, dim=1)], dim=1)
    turn = turn / plan["zoom"].view(-1, 1, 1)
    top, left, height, width = plan["crop"].unbind(dim=1)
    centre = torch.stack([2 * left + width - 1, 2 * top + height - 1], dim=1) - 2 * plan["shift"]
    share = torch.stack([width, height], dim=1)
    return torch.cat([turn * share[:, None, :], turn @ centre[:, :, None]], dim=2)
