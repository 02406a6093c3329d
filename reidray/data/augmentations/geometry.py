"""Augmentations that move pixels: all of them in one resampling.

A crop is mirrored, sheared, zoomed, rotated and shifted, in this order, about its centre; then a
window is cut out of it and fills it again. Padding a crop and cutting its own size out shifts it.
An elastic deformation comes last. What RandAugment and AutoAugment move, they move first after the
mirror.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidray.config.options.built_in_augmentations import (
    CropOptions,
    ElasticOptions,
    FlipOptions,
    PadCropOptions,
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
from reidray.data.augmentations.operations import chain_maps, moves_pixels, operation_maps
from reidray.data.augmentations.pixel_copies import copy_pixels
from reidray.data.device_copies import to_device, to_device_together


@register_augmentation("flip")
class Flip(Augmentation):
    """Mirror crops left and right: (B,) bool."""

    shared_draws: ClassVar[int] = 1
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: FlipOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.rand(count, generator=random) < options.probability


@register_augmentation("rotation")
class Rotation(Augmentation):
    """Rotate crops: (B,) radians, clockwise."""

    shared_draws: ClassVar[int] = 1
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: RotationOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.deg2rad(uniform(options.degrees, count, random))


@register_augmentation("shear")
class Shear(Augmentation):
    """Shear crops: (B,) tangents of the shear angle along x."""

    shared_draws: ClassVar[int] = 1
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: ShearOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return torch.tan(torch.deg2rad(uniform(options.degrees, count, random)))


@register_augmentation("zoom")
class Zoom(Augmentation):
    """Zoom crops: (B,) factors; 1 keeps the size."""

    shared_draws: ClassVar[int] = 1
    neutral: ClassVar[float | None] = 1

    @staticmethod
    def draw(options: ZoomOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return 1 + uniform(options.share, count, random)


@register_augmentation("shift")
class Shift(Augmentation):
    """Shift crops: (B, 2) along x and y, as shares of the width and the height."""

    shared_draws: ClassVar[int] = 2
    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: ShiftOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw the parameters."""
        return uniform(options.share, count, random, 2)


@register_augmentation("crop")
class Crop(Augmentation):
    """Cut windows out of crops: (B, 4) top, left, height and width as shares of the crop."""

    shared_draws: ClassVar[int] = 4

    @staticmethod
    def draw(options: CropOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw windows that lack up to a share of the height and of the width, anywhere."""
        lost_height, lost_width, top, left = torch.rand(4, count, generator=random)
        height, width = 1 - options.share * lost_height, 1 - options.share * lost_width
        return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)

    @classmethod
    def is_active(cls, parameters: Tensor) -> bool:
        """Return whether any window is smaller than its crop."""
        return bool((parameters[:, 2:] != 1).any())


@register_augmentation("pad_crop")
class PadCrop(Augmentation):
    """Pad crops, and cut out their own size (Luo et al. 2019): (B, 2) pixels along x and y.

    A crop moves by as many pixels as a window of its size has moved off the middle.
    """

    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: PadCropOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw whole numbers of pixels."""
        places = torch.rand(count, 2, generator=random) * (2 * options.pixels + 1)
        return places.floor() - options.pixels


@register_augmentation("elastic")
class Elastic(Augmentation):
    """Deform crops like rubber (Ronneberger et al. 2015): (B, 2, 3, 3) moves of points.

    The points lie on a regular grid over the crop, from corner to corner, and move along x and y by
    shares of the width and the height. The other pixels follow by bicubic interpolation.
    """

    neutral: ClassVar[float | None] = 0

    @staticmethod
    def draw(options: ElasticOptions, count: int, random: torch.Generator) -> Tensor:
        """Draw from a normal distribution."""
        return options.share * torch.randn(count, 2, 3, 3, generator=random)


RESAMPLED = frozenset(("rotation", "shear", "zoom", "crop", "elastic"))
"""Augmentations that resample a batch; without them flips and shifts copy whole pixels."""

POLICIES = frozenset(("rand_augment", "auto_augment"))
"""Augmentations that resample a crop where an operation that it draws moves pixels."""

AFFINE = frozenset(("rotation", "shear", "zoom", "crop", "shift"))
"""Augmentations that make up the affine map of a crop."""


def move(images: Tensor, plan: AugmentPlan, fill: float, resampling: str) -> Tensor:
    """Mirror and move each of (B, C, H, W) uint8; those that only shift move by whole pixels.

    Args:
        images: images on any device.
        plan: parameters of the images, with all of `AFFINE` if one of `RESAMPLED` or `POLICIES` is
            among them.
        fill: value of pixels that come from outside an image.
        resampling: `bilinear` or `nearest`.

    Returns:
        (B, C, H, W) float32, the channels last in memory; resampled on a CPU, they come first.
    """
    height, width = images.shape[2:]
    flip = plan["flip"] if "flip" in plan.active else None
    shift = _shift(plan, height, width)
    if RESAMPLED & set(plan.active):
        mirrored = copy_pixels(images, flip, None, fill)
        elastic = plan["elastic"] if "elastic" in plan.active else None
        return _warp(mirrored, _sources(plan, shift, height / width), elastic, fill, resampling)
    moved = copy_pixels(images, flip, shift, fill)
    positions = _moved_by_policy(plan)
    if len(positions):
        # Only these: a crop must not depend on what the others in this worker's share have drawn.
        maps = _sources(plan, shift, height / width)[positions]
        on_device = to_device(positions, images.device)
        chosen = images.index_select(0, on_device)
        mirrored = copy_pixels(chosen, None if flip is None else flip[positions], None, fill)
        moved.index_copy_(0, on_device, _warp(mirrored, maps, None, fill, resampling))
    return moved


def _moved_by_policy(plan: AugmentPlan) -> Tensor:
    """Return the positions, (M,) int64, of the images of which an operation moves the pixels."""
    moved = [moves_pixels(plan[name]) for name in plan.active if name in POLICIES]
    return torch.from_numpy(np.flatnonzero(np.any(moved, axis=0)))


def _shift(plan: AugmentPlan, height: int, width: int) -> Tensor | None:
    """Return the shift of each image, (B, 2) shares along x and y; None where none is shifted."""
    shifts = [plan[name] for name in plan.active if name == "shift"]
    if "pad_crop" in plan.active:
        shifts.append(plan["pad_crop"] / torch.tensor([width, height]))
    return sum(shifts[1:], shifts[0]) if shifts else None


def _warp(
    images: Tensor, maps: Tensor, elastic: Tensor | None, fill: float, resampling: str
) -> Tensor:
    """Resample each image through its own affine map, and deform it where `elastic` is given.

    On a GPU the channels are last in memory.
    """
    height, width = images.shape[2:]
    if images.device.type == "cpu":
        grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    else:
        grid = affine_points(maps, height, width, images.device)
    if elastic is not None:
        points = to_device(-2 * elastic, images.device)
        field = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    moved = functional.grid_sample(
        images - fill, grid, mode=resampling, padding_mode="zeros", align_corners=False
    )
    moved = (moved + fill).clamp(0, 255)
    if moved.device.type == "cpu":
        return moved
    return moved.contiguous(memory_format=torch.channels_last)


def affine_points(maps: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Return what `affine_grid` returns, by a sum on the device in place of a matrix product.

    The products of a GPU may be those of TF32 while a network trains in float32 in another thread,
    as the setting is one of the process. They would move each pixel by up to a share of 2**-11 of
    the image, and not alike in each run.

    Args:
        maps: (B, 2, 3) float32 affine maps, on the CPU.
        height: rows of an image.
        width: columns of an image.
        device: device of the result.

    Returns:
        (B, height, width, 2) float32 points, x and y from -1 to 1.
    """
    x, y = ((2 * torch.arange(size)[:, None] + 1) / size - 1 for size in (width, height))
    of_x, of_y, offset = maps[:, None].unbind(dim=3)
    parts = to_device_together({"rows": of_y * y + offset, "columns": of_x * x}, device)
    return parts["rows"][:, :, None] + parts["columns"][:, None]


def _sources(plan: AugmentPlan, shift: Tensor | None, aspect: float) -> Tensor:
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
    centre = torch.stack([2 * left + width - 1, 2 * top + height - 1], dim=1)
    if shift is not None:
        centre = centre - 2 * shift
    share = torch.stack([width, height], dim=1)
    maps = torch.cat([turn * share[:, None, :], turn @ centre[:, :, None]], dim=2)
    operations = [plan[name] for name in plan.active if name in POLICIES]
    return (
        chain_maps(operation_maps(torch.cat(operations, dim=1), aspect), maps)
        if operations
        else maps
    )
