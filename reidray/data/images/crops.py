"""Read decoded crops by their indices, wherever they are stored."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class CropGroup:
    """Hold N crops that belong together, such as those of one person or of one batch.

    Attributes:
        indices: (N,) int64, the indices of the crops in the manifest.
        crops: (N, H, W, 3) uint8 RGB, possibly a read-only view of shared memory.
        masks: (N, H, W) uint8, 1 in the foreground; None without masks.
    """

    indices: Indices
    crops: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None


class CropReader(Protocol):
    """Read crops from memory, or decode them from files."""

    def read(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of each batch of indices, in the order of the batches.

        Args:
            batches: (B,) int64 indices of each batch.

        Raises:
            KeyError: an index has no crop.
        """


class CropTable:
    """Read crops in any order from groups in memory, without a copy of the groups.

    Args:
        groups: the groups of crops.
    """

    def __init__(self, groups: Iterable[CropGroup]) -> None:
        kept = [group for group in groups if len(group.indices)]
        self._crops = [group.crops for group in kept]
        self._masks = [group.masks for group in kept if group.masks is not None]
        sizes = [len(group.indices) for group in kept]
        indices = np.concatenate([np.zeros(0, np.int64), *(group.indices for group in kept)])
        # The group of each index, -1 if it has no crop, and the position of its crop there.
        self._group = np.full(int(indices.max(initial=-1)) + 1, -1, dtype=np.int32)
        self._position = np.zeros_like(self._group)
        self._group[indices] = np.repeat(np.arange(len(sizes)), sizes)
        self._position[indices] = np.concatenate([np.zeros(0, np.int32), *map(np.arange, sizes)])

    def read(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield a copy of the crops of each batch of indices, in the order of the batches.

        Raises:
            KeyError: an index has no crop.
        """
        return (self._gather(indices) for indices in batches)

    def _gather(self, indices: Indices) -> CropGroup:
        for index in indices[(indices < 0) | (indices >= len(self._group))]:
            raise KeyError(int(index))
        groups = self._group[indices]
        for index in indices[groups < 0]:
            raise KeyError(int(index))
        positions = list(zip(groups.tolist(), self._position[indices].tolist(), strict=True))
        crops = _copy_together(self._crops, positions)
        return CropGroup(
            indices, crops, _copy_together(self._masks, positions) if self._masks else None
        )


def _copy_together(
    groups: list[NDArray[np.uint8]], positions: list[tuple[int, int]]
) -> NDArray[np.uint8]:
    """Copy the images at some positions, each a group and an index in it, to one array."""
    batch = np.empty((len(positions), *groups[0].shape[1:]), dtype=np.uint8)
    for target, (group, index) in zip(batch, positions, strict=True):
        target[...] = groups[group][index]
    return batch
