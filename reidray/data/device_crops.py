"""Read crops as tensors on the device of the network.

The crops of a table that fits lie on the GPU, where a batch is gathered. Others, and streamed ones,
are copied to the GPU batch by batch through pinned memory.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reidray.data.device_copies import host_array, rows_to_device, to_device
from reidray.data.images.crops import CropGroup, CropReader, CropTable, IndexLookup, Indices

log = logging.getLogger("reidray")

RESIDENT_SHARE = 0.25
"""Share of the free memory of a GPU that crops may take before the network has taken any."""

PIECE_BYTES = 64_000_000
"""Bytes of the crops that are pinned at once on their way to the GPU."""


@dataclass(frozen=True)
class CropBatch:
    """Hold B crops on a device.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, the channels last in memory.
        masks: (B, H, W) uint8, 1 in the foreground; None without masks.
    """

    images: Tensor
    masks: Tensor | None


class DeviceCrops(Protocol):
    """Read crops as tensors on a device."""

    def read(self, batches: Sequence[Indices]) -> Iterator[CropBatch]:
        """Yield the crops of each batch of indices, in the order of the batches.

        Args:
            batches: (B,) int64 indices of each batch.

        Raises:
            KeyError: an index has no crop.
        """


class CopiedCrops:
    """Copy the crops of each batch to a device.

    Args:
        crops: crops in main memory or in files.
        device: device of the batches.
    """

    def __init__(self, crops: CropReader, device: torch.device) -> None:
        self._crops, self._device = crops, device

    def read(self, batches: Sequence[Indices]) -> Iterator[CropBatch]:
        """Yield the crops of each batch of indices, in the order of the batches."""
        for group in self._crops.read(batches, partial(host_array, device=self._device)):
            images, masks = _host_tensors(group)
            yield CropBatch(
                to_device(images, self._device).permute(0, 3, 1, 2),
                None if masks is None else to_device(masks, self._device),
            )


class GatheredCrops:
    """Keep the crops of a table on a device, and gather each batch there.

    Args:
        table: crops in main memory, which are copied once.
        device: device of the crops.
    """

    def __init__(self, table: CropTable, device: torch.device) -> None:
        self._device, self._lookup = device, IndexLookup(table.indices)
        shape = len(table.indices), *table.size
        self._images = torch.empty((*shape, 3), dtype=torch.uint8, device=device)
        self._masks = None
        if table.has_masks:
            self._masks = torch.empty(shape, dtype=torch.uint8, device=device)
        length = max(1, PIECE_BYTES * len(table.indices) // table.nbytes)
        starts = range(0, len(table.indices), length)
        pieces = [table.indices[start : start + length] for start in starts]
        groups = table.read(pieces, partial(host_array, device=device))
        for start, group in zip(starts, groups, strict=True):
            images, masks = _host_tensors(group)
            self._images[start : start + length].copy_(images, non_blocking=True)
            if self._masks is not None and masks is not None:
                self._masks[start : start + length].copy_(masks, non_blocking=True)

    def read(self, batches: Sequence[Indices]) -> Iterator[CropBatch]:
        """Yield the crops of each batch of indices, in the order of the batches.

        The positions of all batches travel together.

        Raises:
            KeyError: an index has no crop.
        """
        positions = self._lookup.find(np.concatenate([np.zeros(0, np.int64), *batches]))
        lengths = [len(batch) for batch in batches]
        return map(self._gather, rows_to_device(positions, lengths, self._device))

    def _gather(self, positions: Tensor) -> CropBatch:
        masks = None if self._masks is None else self._masks.index_select(0, positions)
        return CropBatch(self._images.index_select(0, positions).permute(0, 3, 1, 2), masks)


def place_crops(crops: CropReader, device: torch.device) -> DeviceCrops:
    """Return a reader of crops on a device, and log where the crops lie beside a GPU, and why."""
    if device.type != "cuda":
        return CopiedCrops(crops, device)
    if not isinstance(crops, CropTable):
        log.info("crops are decoded as a stream and copied to the GPU batch by batch")
        return CopiedCrops(crops, device)
    free, _ = torch.cuda.mem_get_info(device)
    fits = crops.nbytes <= RESIDENT_SHARE * free
    log.info(
        "crops %s: %.2f GB, and the GPU has %.2f GB free, of which they may take %.0f %%",
        "lie on the GPU" if fits else "are copied to the GPU batch by batch",
        crops.nbytes / 1e9,
        free / 1e9,
        100 * RESIDENT_SHARE,
    )
    return GatheredCrops(crops, device) if fits else CopiedCrops(crops, device)


def _host_tensors(group: CropGroup) -> tuple[Tensor, Tensor | None]:
    """Return the crops and the masks of a group as tensors that share its memory."""
    masks = None if group.masks is None else torch.from_numpy(group.masks)
    return torch.from_numpy(group.crops), masks
