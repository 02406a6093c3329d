"""Augmentation of whole batches, on the device of the network.

The random numbers of a global batch come from (seed, epoch, step) on the CPU, and each worker takes
its own rows of them, so that a crop is augmented alike for any number of workers.
"""

from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.config import AugmentConfig
from reidray.data.augmentations.augmentation import (
    AUGMENTATIONS,
    AugmentPlan,
    PastingAugmentation,
)
from reidray.data.augmentations.geometry import AFFINE, POLICIES, RESAMPLED, move
from reidray.data.device_copies import to_device

DONORS = 256
"""Training crops of which the patches of an epoch come, if there are as many."""


def image_tensor(crops: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return decoded crops, (B, H, W, 3) uint8, on a device as (B, 3, H, W)."""
    return to_device(torch.from_numpy(crops), device).permute(0, 3, 1, 2)


def augmentations_on(config: AugmentConfig) -> dict[str, float]:
    """Return the strength of each augmentation that is on: its first option, which is not 0."""
    strengths = {name: next(iter(vars(options).values())) for name, options in config.parts.items()}
    return {name: strength for name, strength in strengths.items() if strength}


def image_crops(images: Tensor) -> NDArray[np.uint8]:
    """Return augmented images, (B, 3, H, W) in 0..255, as crops, (B, H, W, 3) uint8."""
    crops = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return np.asarray(crops.cpu().numpy())


def plan_augmentation(
    config: AugmentConfig, count: int, *, seed: int, epoch: int, step: int
) -> AugmentPlan:
    """Draw the parameters for a global batch of `count` crops.

    The built-in augmentations draw one after the other from the same random numbers, in the order
    of their registration; the numbers of those that are off are skipped. Any other draws from
    random numbers of its own, which depend on its name, so that it changes no other draw.

    Returns:
        The parameters of the augmentations that are on; beside one of `RESAMPLED` or `POLICIES`
        of all `AFFINE`.
    """
    drawn = set(augmentations_on(config))
    if drawn & (RESAMPLED | POLICIES):
        drawn |= AFFINE
    plan: dict[str, Tensor] = {}
    shared, skipped = _random(seed, epoch, step), 0
    for name, options in config.parts.items():
        augmentation = AUGMENTATIONS.get(name)
        if name not in drawn:
            skipped += augmentation.shared_draws * count
        elif augmentation.shared_draws:
            torch.rand(skipped, generator=shared)
            plan[name], skipped = augmentation.draw(options, count, shared), 0
        else:
            own = _random(seed, epoch, step, crc32(name.encode()))
            plan[name] = augmentation.draw(options, count, own)
    return AugmentPlan(plan)


def draw_donors(config: AugmentConfig, count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw the training crops that give patches to the batches of an epoch.

    Args:
        config: the augmentations.
        count: training crops.
        seed: seed of the training.
        epoch: number of the epoch.

    Returns:
        (D,) int64 positions from 0 to `count`, ascending; none where no augmentation needs any.
    """
    classes = (AUGMENTATIONS.get(name) for name in augmentations_on(config))
    if not any(issubclass(each, PastingAugmentation) for each in classes):
        return np.zeros(0, dtype=np.int64)
    random = np.random.default_rng((seed, epoch, crc32(b"donors")))
    return np.sort(random.choice(count, min(count, DONORS), replace=False))


def augment(
    crops: Tensor, plan: AugmentPlan, *, fill: float, donors: Tensor | None = None
) -> Tensor:
    """Apply a plan to a batch of crops; they are resampled bilinear.

    Mirroring, shifting and erasing copy pixels, which is as much faster as memory is. The
    coordinates of a move and of an erased rectangle are computed on the CPU, with the same bits for
    every device; a GPU would launch a kernel for each of many small steps.

    Args:
        crops: (B, 3, H, W) uint8, fastest where the channels come last in memory.
        plan: parameters of these B crops.
        fill: value in 0..255 of what comes in from outside and of what is erased.
        donors: (D, 3, H, W) uint8 crops that give patches, on the device of the crops; None takes
            the crops themselves.

    Returns:
        (B, 3, H, W) float32 in 0..255, the channels last in memory.
    """
    images = move(crops, plan, fill, "bilinear")
    active = {name: AUGMENTATIONS.get(name) for name in plan.active}
    parameters: dict[str, Tensor] = plan
    if any(each.parameters_on_device for each in active.values()):
        parameters = plan | plan.on_device(crops.device)
    for name, augmentation in active.items():
        if issubclass(augmentation, PastingAugmentation):
            images = augmentation.paste(images, plan[name], crops if donors is None else donors)
        else:
            images = augmentation.apply(images, parameters[name], fill)
    return images


def augment_masks(masks: Tensor, plan: AugmentPlan) -> Tensor:
    """Move masks as a plan moves their crops; they are resampled to the nearest pixel.

    Args:
        masks: (B, H, W) uint8.
        plan: parameters of these B masks.

    Returns:
        (B, H, W) uint8.
    """
    moved = move(masks[:, None], plan, 0, "nearest")
    return moved[:, 0].to(torch.uint8)


def _random(*numbers: int) -> torch.Generator:
    """Return a generator of random numbers that depend on some numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
