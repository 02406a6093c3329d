"""Decoded crops, reached by the row of their manifest, wherever they are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class CropGroup:
    """Crops that belong together, such as those of one person or of one batch.

    Attributes:
        indices: (N,) int64, the crops' indices in the manifest.
        crops: (N, H, W, 3) uint8, possibly a read-only view of shared memory.
        masks: (N, H, W) uint8, 1 where the foreground is; None where none were decoded.
    """

    indices: Indices
    crops: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None


class CropReader(Protocol):
    """Where the crops come from: memory, or files that are decoded on the way."""

    def read(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """The crops of each batch of indices, in the order asked for.

        Raises:
            KeyError: a row has no crop.
        """


class CropTable:
    """Random access to crops that are held in memory, in groups; never copies a group."""

    def __init__(self, groups: Iterable[CropGroup]) -> None:
        kept = [group for group in groups if len(group.indices)]
        self._crops = [group.crops for group in kept]
        self._masks = [group.masks for group in kept if group.masks is not None]
        sizes = [len(group.indices) for group in kept]
        indices = np.concatenate([np.zeros(0, np.int64), *(group.indices for group in kept)])
        # Where each row is found: its group, -1 where it has none, and its place there.
        self._group = np.full(int(indices.max(initial=-1)) + 1, -1, dtype=np.int32)
        self._place = np.zeros_like(self._group)
        self._group[indices] = np.repeat(np.arange(len(sizes)), sizes)
        self._place[indices] = np.concatenate([np.zeros(0, np.int32), *map(np.arange, sizes)])

    @classmethod
    def from_array(cls, crops: NDArray[np.uint8]) -> Self:
        """A table whose row i is crops[i], (N, H, W, 3) uint8."""
        return cls([CropGroup(np.arange(len(crops), dtype=np.int64), crops)])

    def read(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """The crops of each batch of indices, copied together, in the order asked for.

        Raises:
            KeyError: a row has no crop.
        """
        return (self._gather(indices) for indices in batches)

    def _gather(self, indices: Indices) -> CropGroup:
        for row in indices[(indices < 0) | (indices >= len(self._group))]:
            raise KeyError(int(row))
        groups = self._group[indices]
        for row in indices[groups < 0]:
            raise KeyError(int(row))
        places = list(zip(groups.tolist(), self._place[indices].tolist(), strict=True))
        crops = _copy_together(self._crops, places)
        return CropGroup(
            indices, crops, _copy_together(self._masks, places) if self._masks else None
        )


def _copy_together(
    groups: list[NDArray[np.uint8]], places: list[tuple[int, int]]
) -> NDArray[np.uint8]:
    """The images at these places of the groups, as one array."""
    batch = np.empty((len(places), *groups[0].shape[1:]), dtype=np.uint8)
    for target, (group, place) in zip(batch, places, strict=True):
        target[...] = groups[group][place]
    return batch
