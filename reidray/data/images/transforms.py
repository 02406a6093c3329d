"""Augmentation of whole batches, on the device the model is on.

The random numbers of a global batch come from (seed, epoch, step) on the CPU and each worker takes
its own rows of them, so that a crop is augmented alike for any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reidray.config import AugmentConfig

LUMA = (0.2989, 0.587, 0.114)
"""How bright red, green and blue are to the eye (ITU-R BT.601), as torchvision rounds it."""


def image_tensor(crops: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Crops as they were decoded, (B, H, W, 3) uint8, on a device as (B, 3, H, W)."""
    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class AugmentPlan:
    """What happens to each of B crops: (B,) float32 columns, or bool where it happens or not.

    A crop is mirrored, sheared, zoomed, rotated and shifted, in this order, about its centre; then
    the window is cut out of it and fills it again, all in one resampling.

    Attributes:
        flip: mirror left and right.
        rotation: in radians, clockwise.
        shear: tangent of the shear angle along x.
        zoom: factor, 1 keeps the size.
        shift: (B, 2), along x and y, as a share of the width and the height.
        brightness: factor.
        contrast: factor.
        erase: (B, 4) top, left, height, width as shares of the crop; height 0 erases nothing.
        window: (B, 4) top, left, height, width as shares of the crop; 0, 0, 1, 1 keeps all.
        saturation: factor, 0 leaves grey.
        hue: share of the colour circle that colours turn, from red to green to blue.
    """

    flip: Tensor
    rotation: Tensor
    shear: Tensor
    zoom: Tensor
    shift: Tensor
    brightness: Tensor
    contrast: Tensor
    erase: Tensor
    window: Tensor
    saturation: Tensor
    hue: Tensor

    def take(self, positions: Tensor) -> "AugmentPlan":
        """The plan of some of the crops."""
        return AugmentPlan(**{name: column[positions] for name, column in vars(self).items()})

    def to(self, device: torch.device) -> "AugmentPlan":
        """The plan on a device."""
        return AugmentPlan(**{name: column.to(device) for name, column in vars(self).items()})


def plan_augmentation(
    config: AugmentConfig, count: int, *, seed: int, epoch: int, step: int
) -> AugmentPlan:
    """Draw the parameters for a global batch of `count` crops."""
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(1)
    random = torch.Generator().manual_seed(int(state[0]))

    def between(limit: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=random) * 2 - 1) * limit

    # In the order of drawing: what is new comes last, so that older recipes draw as they did.
    return AugmentPlan(
        flip=torch.rand(count, generator=random) < config.flip,
        rotation=torch.deg2rad(between(config.rotation)),
        shear=torch.tan(torch.deg2rad(between(config.shear))),
        zoom=1 + between(config.zoom),
        shift=between(config.shift, 2),
        brightness=1 + between(config.brightness),
        contrast=1 + between(config.contrast),
        erase=_plan_erasing(config.erasing, count, random),
        window=_plan_window(config.crop, count, random),
        saturation=1 + between(config.saturation),
        hue=between(config.hue),
    )


def _plan_erasing(probability: float, count: int, random: torch.Generator) -> Tensor:
    """Rectangles of 2 to 30 % of the area, sides in a ratio of 0.3 to 3.3 (Zhong et al. 2020)."""
    happens, area, ratio, top, left = torch.rand(5, count, generator=random)
    area = 0.02 + area * 0.28
    ratio = torch.exp((ratio * 2 - 1) * 1.2)
    height = (area * ratio).sqrt().clamp(max=1.0) * (happens < probability)
    width = (area / ratio).sqrt().clamp(max=1.0)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)


def _plan_window(limit: float, count: int, random: torch.Generator) -> Tensor:
    """Windows that lack up to a share of the height and of the width, anywhere in the crop."""
    lost_height, lost_width, top, left = torch.rand(4, count, generator=random)
    height, width = 1 - limit * lost_height, 1 - limit * lost_width
    return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)


def augment(crops: Tensor, plan: AugmentPlan, *, fill: float) -> Tensor:
    """Apply a plan to a batch of crops; they are resampled bilinear.

    Whatever only mirrors, shifts or erases copies pixels, as many times faster as memory is.

    Args:
        crops: (B, 3, H, W) uint8, fastest where the channels come last in memory.
        plan: the parameters of these B crops, on any device.
        fill: value in 0..255 of what comes in from outside and of what is erased.

    Returns:
        (B, 3, H, W) float32 in 0..255, the channels last in memory.
    """
    images = _recolour(_move(crops, plan, fill, "bilinear"), plan)
    return _erase(images, plan.erase, fill)


def augment_masks(masks: Tensor, plan: AugmentPlan) -> Tensor:
    """Move masks as a plan moves their crops; they are resampled to the nearest pixel.

    What comes in from outside is background. A mask is not erased where its crop is: the animal is
    still there, hidden, and the network is to say so.

    Args:
        masks: (B, H, W) uint8, 1 where the foreground is.
        plan: the parameters of these B masks, on any device.

    Returns:
        (B, H, W) uint8.
    """
    moved = _move(masks[:, None], plan, 0, "nearest")
    return moved[:, 0].to(torch.uint8)


def _move(images: Tensor, plan: AugmentPlan, fill: float, resampling: str) -> Tensor:
    """Mirror and move each of (B, C, H, W) uint8; those that only shift move by whole pixels."""
    if bool(plan.flip.any()):
        mirrored = images.flip(3)
        sides = zip(plan.flip.tolist(), images, mirrored, strict=True)
        images = _stacked([mirror if flip else image for flip, image, mirror in sides])
    resampled = (plan.rotation != 0) | (plan.shear != 0) | (plan.zoom != 1)
    resampled |= (plan.window[:, 2:] != 1).any(dim=1)
    if bool(resampled.any()):
        return _warp(images.float(), plan.to(images.device), fill, resampling)
    return _shift(images, plan.shift, fill) if bool(plan.shift.any()) else images.float()


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
            image[:, :, _came_in(x)] = fill
        if y:
            image[:, _came_in(y)] = fill
    return moved


def _came_in(move: int) -> slice:
    """Where pixels from outside lie after a move."""
    return slice(0, move) if move > 0 else slice(move, None)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """Images (C, H, W) as one batch, the channels last in memory."""
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
    """(B, 2, 3) float32: where in the crop each place of the augmented crop comes from.

    Places run from -1 to 1 along both sides, hence the aspect ratio, height by width.
    """
    cosine, sine, shear = torch.cos(plan.rotation), torch.sin(plan.rotation), plan.shear
    # The inverse of rotation times shear, [[cos, -sin], [sin, cos]] [[1, -shear], [0, 1]].
    row_x = [cosine - shear * sine, (sine + shear * cosine) * aspect]
    row_y = [-sine / aspect, cosine]
    turn = torch.stack([torch.stack(row_x, dim=1), torch.stack(row_y, dim=1)], dim=1)
    turn = turn / plan.zoom.view(-1, 1, 1)
    top, left, height, width = plan.window.unbind(dim=1)
    centre = torch.stack([2 * left + width - 1, 2 * top + height - 1], dim=1) - 2 * plan.shift
    share = torch.stack([width, height], dim=1)
    return torch.cat([turn * share[:, None, :], turn @ centre[:, :, None]], dim=2)


def _recolour(images: Tensor, plan: AugmentPlan) -> Tensor:
    """Change contrast, brightness, saturation and hue of (B, 3, H, W) in 0..255."""
    if bool((plan.contrast != 1).any()):
        images = _blend(images, _luma(images).mean(dim=(2, 3), keepdim=True), plan.contrast)
    if bool((plan.brightness != 1).any()):
        factor = plan.brightness.to(images.device).view(-1, 1, 1, 1)
        images = (images * factor).clamp(0, 255)
    if bool((plan.saturation != 1).any()):
        images = _blend(images, _luma(images), plan.saturation)
    return _turn_hue(images, plan.hue) if bool(plan.hue.any()) else images


def _luma(images: Tensor) -> Tensor:
    """(B, 1, H, W): how bright each pixel is."""
    red, green, blue = (weight * images[:, c : c + 1] for c, weight in enumerate(LUMA))
    return red + green + blue


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    """As much of the images as the factor says, the rest of the others; 1 changes no bit."""
    factor = factor.to(images.device).view(-1, 1, 1, 1)
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
    sextant = sextant + 6 * turn.to(images.device).view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):
        place = (sextant + offset) % 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=-1).permute(0, 3, 1, 2)


def _erase(images: Tensor, erase: Tensor, fill: float) -> Tensor:
    """Fill each crop's rectangle, in place: the pixels whose centres lie in it."""
    height, width = images.shape[2:]
    scale = torch.tensor([height, width, height, width])
    sides = erase.cpu() * scale
    bounds = torch.cat([sides[:, :2], sides[:, :2] + sides[:, 2:]], dim=1) - 0.5
    for image, (top, left, bottom, right) in zip(images, bounds.ceil().int().tolist(), strict=True):
        if bottom > top:
            image[:, top:bottom, left:right] = fill
    return images
