"""Decoded crops in memory, reached by the row of their manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class IdentityGroup:
    """The decoded crops of one person, or of a part of a person with very many.

    Attributes:
        rows: (N,) int64, the crops' rows in the manifest.
        crops: (N, H, W, 3) uint8, possibly a read-only view of shared memory.
    """

    rows: NDArray[np.int64]
    crops: NDArray[np.uint8]


class CropTable:
    """Random access to crops that are held in groups; never copies a group.

    Attributes:
        rows: (N,) int64, the manifest's rows that have a crop, ascending.
    """

    def __init__(self, groups: Iterable[IdentityGroup]) -> None:
        found = [group for group in groups if len(group.rows)]
        self._groups = [group.crops for group in found]
        self._place: dict[int, tuple[int, int]] = {
            int(row): (number, position)
            for number, group in enumerate(found)
            for position, row in enumerate(group.rows)
        }
        self.rows: NDArray[np.int64] = np.sort(np.fromiter(self._place, dtype=np.int64))

    @classmethod
    def from_array(cls, crops: NDArray[np.uint8]) -> Self:
        """A table whose row i is crops[i], (N, H, W, 3) uint8."""
        return cls([IdentityGroup(np.arange(len(crops), dtype=np.int64), crops)])

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The crops of some rows, copied together: (len(rows), H, W, 3) uint8.

        Raises:
            KeyError: a row has no crop.
        """
        places = [self._place[int(row)] for row in rows]
        batch = np.empty((len(rows), *self._groups[0].shape[1:]), dtype=np.uint8)
        for target, (number, position) in zip(batch, places, strict=True):
            target[...] = self._groups[number][position]
        return batch
