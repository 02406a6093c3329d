"""Decoded crops in memory, reached by the row of their manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CropGroup:
    """Crops that were decoded together, such as those of one person.

    Attributes:
        rows: (N,) int64, the crops' rows in the manifest.
        crops: (N, H, W, 3) uint8, possibly a read-only view of shared memory.
        masks: (N, H, W) uint8, 1 where the foreground is; None where none were decoded.
    """

    rows: NDArray[np.int64]
    crops: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None


class CropTable:
    """Random access to crops that are held in groups; never copies a group.

    Attributes:
        rows: (N,) int64, the manifest's rows that have a crop, ascending.
    """

    def __init__(self, groups: Iterable[CropGroup]) -> None:
        self._groups = [group for group in groups if len(group.rows)]
        self._place: dict[int, tuple[int, int]] = {
            int(row): (number, position)
            for number, group in enumerate(self._groups)
            for position, row in enumerate(group.rows)
        }
        self.rows: NDArray[np.int64] = np.sort(np.fromiter(self._place, dtype=np.int64))

    @classmethod
    def from_array(cls, crops: NDArray[np.uint8]) -> Self:
        """A table whose row i is crops[i], (N, H, W, 3) uint8."""
        return cls([CropGroup(np.arange(len(crops), dtype=np.int64), crops)])

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The crops of some rows, copied together: (len(rows), H, W, 3) uint8.

        Raises:
            KeyError: a row has no crop.
        """
        return self._copy([group.crops for group in self._groups], rows)

    def gather_masks(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The masks of some rows, copied together: (len(rows), H, W) uint8, 1 the foreground.

        Raises:
            KeyError: a row has no crop.
            ValueError: the crops were decoded without masks.
        """
        masks = [group.masks for group in self._groups if group.masks is not None]
        if len(masks) < len(self._groups):
            raise ValueError("the crops were decoded without masks")
        return self._copy(masks, rows)

    def _copy(self, groups: list[NDArray[np.uint8]], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """What the groups hold of some rows, as one array."""
        batch = np.empty((len(rows), *groups[0].shape[1:]), dtype=np.uint8)
        for target, row in zip(batch, rows.tolist(), strict=True):
            number, position = self._place[row]
            target[...] = groups[number][position]
        return batch
