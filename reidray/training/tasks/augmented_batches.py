"""Read and augment the batches of an epoch, alike for any number of workers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.config import TrainingConfig
from reidray.data.augmentations import augment, augment_masks, draw_donors, plan_augmentation
from reidray.data.device_copies import rows_to_device
from reidray.data.device_crops import DeviceCrops
from reidray.data.images.crops import Indices

FIRST_WINDOW, LARGEST_WINDOW = 2**20, 2**22
"""Crops of a process whose batches are planned and read together. Windows double, so that the first
batch of an epoch comes soon, few windows follow, and no plan of a whole epoch exists."""

LabelFunction = Callable[[Indices], Mapping[str, NDArray[Any]]]
"""Function that returns labels, (N, ...) each, of the training crops at N positions."""


@dataclass(frozen=True)
class AugmentedBatch:
    """Hold one process's share of the images of a batch, on its device.

    Attributes:
        images: (B, 3, H, W) float32 in 0..255, the channels last in memory.
        masks: (B, H, W) uint8, 1 in the foreground; None without masks.
        labels: (B, ...) labels of the images by name.
    """

    images: Tensor
    masks: Tensor | None
    labels: Mapping[str, Tensor]


def augmented_batches(
    crops: DeviceCrops,
    indices: Indices,
    batches: Iterator[Indices],
    share: Indices,
    labels: LabelFunction,
    config: TrainingConfig,
    *,
    device: torch.device,
    epoch: int,
    fill: float,
) -> Iterator[AugmentedBatch]:
    """Yield this process's share of each batch of an epoch.

    Each process reads the few crops that give patches to the batches of an epoch, if any do.

    Args:
        crops: crops on the device of the batches.
        indices: (N,) int64, the training crops.
        batches: (B,) int64 positions in `indices`, of this process's share of each global batch.
        share: (B,) int64 places of the crops of this process in each global batch.
        labels: function that returns labels of the training crops at some positions.
        config: configuration of the training.
        device: device of the batches.
        epoch: number of the epoch.
        fill: value in 0..255 of what comes in from outside and of what is erased.
    """
    donor_positions = draw_donors(config.augment, len(indices), seed=config.seed, epoch=epoch)
    donor_groups = [donor_positions] if len(donor_positions) else []
    donors, step = None, 0
    for window in _windows(batches, len(share)):
        read = crops.read([indices[group] for group in (*donor_groups, *window)])
        if donor_groups:
            donors, donor_groups = next(read).images, []
        columns = _labels_to_device(labels(np.concatenate(window)), window, device)
        for own, batch_labels in zip(read, columns, strict=True):
            plan = plan_augmentation(
                config.augment, config.images_per_batch, seed=config.seed, epoch=epoch, step=step
            ).take(torch.from_numpy(share))
            masks = None if own.masks is None else augment_masks(own.masks, plan)
            images = augment(own.images, plan, fill=fill, donors=donors)
            yield AugmentedBatch(images, masks, batch_labels)
            step += 1


def _windows(batches: Iterator[Indices], length: int) -> Iterator[list[Indices]]:
    """Yield lists of consecutive batches of `length` crops each."""
    size = FIRST_WINDOW
    while window := list(islice(batches, max(1, size // length))):
        yield window
        size = min(2 * size, LARGEST_WINDOW)


def _labels_to_device(
    labels: Mapping[str, NDArray[Any]], window: list[Indices], device: torch.device
) -> Iterator[Mapping[str, Tensor]]:
    """Yield the labels of each batch of a window on a device, in one copy for each label."""
    lengths = [len(batch) for batch in window]
    columns = [rows_to_device(rows, lengths, device) for rows in labels.values()]
    for rows in zip(*columns, strict=True):
        yield dict(zip(labels, rows, strict=True))
