"""Shuffle the crops of people when they are first drawn in an epoch."""

import numpy as np
from numpy.typing import NDArray

from reidray.data.sampling.person_index import Integers, PersonIndex

CROPS_AT_ONCE = 2**20
"""Approximate number of crops that are sorted together."""

PEOPLE_AT_ONCE = 2**16


class CropOrder:
    """Hold a random order of the crops of each person.

    The order of a person depends on the key alone, and not on who is shuffled beside or before.

    Args:
        people: the crops of each person.
        camera_ids: (N,) the camera of each crop, -32,768 to 32,767. If given, the crops of each
            camera are together, and those of a camera in random order.
        key: number that decides the order.
    """

    def __init__(self, people: PersonIndex, camera_ids: Integers | None, *, key: int) -> None:
        self._people, self._camera_ids, self._key = people, camera_ids, np.uint64(key)
        self._is_shuffled = np.zeros(people.num_people, dtype=np.bool_)
        self._order = np.empty_like(people.order)

    def shuffle(self, chosen: Integers) -> None:
        """Shuffle the crops of those of some people that are not shuffled yet.

        Args:
            chosen: numbers of people, of any shape, also repeated.
        """
        new = np.unique(chosen[~self._is_shuffled[chosen]])
        if not len(new):
            return
        self._is_shuffled[new] = True
        ends = np.cumsum(self._people.counts[new], dtype=np.int64)
        part = np.maximum(ends // CROPS_AT_ONCE, np.arange(len(new)) // PEOPLE_AT_ONCE)
        for each in np.split(new, np.flatnonzero(np.diff(part)) + 1):
            self._shuffle_together(each)

    def take(self, people: Integers, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of crops of people whose crops are shuffled.

        Args:
            people: numbers of people.
            places: places in the order of each person, which begins again after its end; of a shape
                to which `people` broadcasts.
        """
        within = places % self._people.counts[people]
        return self._order[self._people.starts[people] + within].astype(np.int64)

    def _shuffle_together(self, new: Integers) -> None:
        """Shuffle the crops of at most 2^16 people by one sort."""
        starts, counts = self._people.starts[new], self._people.counts[new]
        ends = np.cumsum(counts, dtype=np.int64)
        places = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        crops = self._people.order[places]
        keys = _hash(crops.astype(np.uint64), self._key) >> np.uint64(32)
        if self._camera_ids is not None:
            cameras = (self._camera_ids[crops].astype(np.int64) + 2**15).astype(np.uint64)
            keys |= cameras << np.uint64(32)
        keys |= np.repeat(np.arange(len(new), dtype=np.uint64) << np.uint64(48), counts)
        # Stable, so that equal keys have one order on every machine.
        self._order[places] = crops[np.argsort(keys, kind="stable")]


def _hash(numbers: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """Return a random number of 64 bits for each number and key (SplitMix64, Steele et al. 2014).

    Args:
        numbers: numbers of any shape, which are overwritten.
        key: the key.
    """
    numbers *= np.uint64(0x9E3779B97F4A7C15)
    numbers += key
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers
