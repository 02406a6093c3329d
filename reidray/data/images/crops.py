"""Read decoded crops by their indices, wherever they are stored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]
"""Function that returns an uninitialised array of a shape, such as one in pinned memory."""


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


def allocate_array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an uninitialised array of a shape in main memory."""
    return np.empty(shape, dtype=np.uint8)


class CropReader(Protocol):
    """Read crops from memory, or decode them from files."""

    def read(
        self, batches: Sequence[Indices], allocate: Allocate = allocate_array
    ) -> Iterator[CropGroup]:
        """Yield a copy of the crops of each batch of indices, in the order of the batches.

        Args:
            batches: (B,) int64 indices of each batch.
            allocate: function that returns the memory for the crops and the masks of a batch.

        Raises:
            KeyError: an index has no crop.
        """


class IndexLookup:
    """Find the positions of some indices of the manifest.

    >>> IndexLookup(np.array([7, 2])).find(np.array([2, 2, 7])).tolist()
    [1, 1, 0]

    Args:
        indices: (N,) int64, the index at each position.
    """

    def __init__(self, indices: Indices) -> None:
        self._positions = np.full(int(indices.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._positions[indices] = np.arange(len(indices))

    def find(self, indices: Indices) -> NDArray[np.int64]:
        """Return the position of each index, (M,) int64.

        Raises:
            KeyError: an index has no position.
        """
        for index in indices[(indices < 0) | (indices >= len(self._positions))]:
            raise KeyError(int(index))
        positions = self._positions[indices]
        for index in indices[positions < 0]:
            raise KeyError(int(index))
        return positions


class CropTable:
    """Read crops in any order from groups in memory, without a copy of the groups.

    Args:
        groups: the groups of crops.

    Attributes:
        indices: (N,) int64, the indices of all crops in the manifest.
    """

    def __init__(self, groups: Iterable[CropGroup]) -> None:
        kept = [group for group in groups if len(group.indices)]
        self._crops = [group.crops for group in kept]
        self._masks = [group.masks for group in kept if group.masks is not None]
        sizes = [len(group.indices) for group in kept]
        self.indices = np.concatenate([np.zeros(0, np.int64), *(group.indices for group in kept)])
        self._lookup = IndexLookup(self.indices)
        # The group of each crop, and its place there.
        self._group = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        self._place = np.concatenate([np.zeros(0, np.int32), *map(np.arange, sizes)])

    @property
    def size(self) -> tuple[int, int]:
        """Return the height and the width of a crop in pixels."""
        height, width = self._crops[0].shape[1:3]
        return height, width

    @property
    def has_masks(self) -> bool:
        """Return whether each crop has a mask."""
        return bool(self._masks)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all crops and masks."""
        return sum(array.nbytes for array in (*self._crops, *self._masks))

    def read(
        self, batches: Sequence[Indices], allocate: Allocate = allocate_array
    ) -> Iterator[CropGroup]:
        """Yield a copy of the crops of each batch of indices, in the order of the batches.

        Raises:
            KeyError: an index has no crop.
        """
        return (self._gather(indices, allocate) for indices in batches)

    def _gather(self, indices: Indices, allocate: Allocate) -> CropGroup:
        positions = self._lookup.find(indices)
        places = self._group[positions].tolist(), self._place[positions].tolist()
        crops = _copy_together(self._crops, *places, allocate)
        masks = _copy_together(self._masks, *places, allocate) if self.has_masks else None
        return CropGroup(indices, crops, masks)


def _copy_together(
    groups: list[NDArray[np.uint8]],
    group_numbers: list[int],
    places: list[int],
    allocate: Allocate,
) -> NDArray[np.uint8]:
    """Copy the images at some places of some groups to one array."""
    height, *rest = groups[0].shape[1:]
    batch = allocate((len(places), height, *rest))
    images = [groups[group][place] for group, place in zip(group_numbers, places, strict=True)]
    if images:
        np.concatenate(images, out=batch.reshape(-1, *rest))  # one call: no copy in Python
    return batch
