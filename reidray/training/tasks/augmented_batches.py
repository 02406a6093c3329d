"""Read and augment the batches of an epoch, alike for any number of workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.config import TrainingConfig
from reidray.data.augmentations import augment, augment_masks, draw_donors, plan_augmentation
from reidray.data.device_crops import DeviceCrops
from reidray.data.images.crops import Indices


@dataclass(frozen=True)
class AugmentedBatch:
    """Hold one process's share of the images of a batch, on its device.

    Attributes:
        images: (B, 3, H, W) float32 in 0..255, the channels last in memory.
        masks: (B, H, W) uint8, 1 in the foreground; None without masks.
    """

    images: Tensor
    masks: Tensor | None


def augmented_batches(
    crops: DeviceCrops,
    indices: Indices,
    batches: Sequence[Indices],
    share: Indices,
    config: TrainingConfig,
    *,
    epoch: int,
    fill: float,
) -> Iterator[AugmentedBatch]:
    """Yield this process's share of each batch of an epoch.

    Each process reads the few crops that give patches to the batches of an epoch, if any do.

    Args:
        crops: crops on the device of the batches.
        indices: (N,) int64, the training crops.
        batches: (G,) int64 positions in `indices`, of each global batch.
        share: (B,) int64 places of the crops of this process in each global batch.
        config: configuration of the training.
        epoch: number of the epoch.
        fill: value in 0..255 of what comes in from outside and of what is erased.
    """
    donor_positions = draw_donors(config.augment, len(indices), seed=config.seed, epoch=epoch)
    groups = [donor_positions] if len(donor_positions) else []
    groups += [batch[share] for batch in batches]
    read = crops.read([indices[group] for group in groups])
    donors = next(read).images if len(donor_positions) else None
    for step, (batch, own) in enumerate(zip(batches, read, strict=True)):
        plan = plan_augmentation(
            config.augment, len(batch), seed=config.seed, epoch=epoch, step=step
        ).take(torch.from_numpy(share))
        masks = None if own.masks is None else augment_masks(own.masks, plan)
        yield AugmentedBatch(augment(own.images, plan, fill=fill, donors=donors), masks)
