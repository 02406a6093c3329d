"""Index the crops of each person by columns: three integer arrays for all people together."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PersonIndex:
    """Hold the positions of the crops of n people. People are numbered by their sorted ids, from 0.

    Arrays of positions are int32, or int64 where there are 2^31 crops or more.

    Attributes:
        order: (N,) positions of the crops, those of a person together.
        starts: (n,) place in `order` of the first crop of each person.
        counts: (n,) number of crops of each person, 1 or more.
    """

    order: Integers
    starts: Integers
    counts: Integers

    @classmethod
    def from_person_ids(cls, person_ids: Integers) -> Self:
        """Return the index of crops, given the person of each, (N,) integers.

        >>> index = PersonIndex.from_person_ids(np.array([7, 4, 7]))
        >>> index.order.tolist(), index.starts.tolist(), index.counts.tolist()
        ([1, 0, 2], [0, 1], [1, 2])
        """
        kind: Any = index_type(len(person_ids))
        order = np.argsort(person_ids, kind="stable").astype(kind)
        ids = person_ids[order]
        is_first = np.ones(len(ids), dtype=np.bool_)
        np.not_equal(ids[1:], ids[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first).astype(kind)
        counts = np.diff(starts, append=kind(len(ids)))
        return cls(order, starts, counts)

    @property
    def num_people(self) -> int:
        """Return the number of people."""
        return len(self.starts)

    def person_numbers(self) -> Integers:
        """Return the number of the person of each crop, (N,), from 0.

        >>> PersonIndex.from_person_ids(np.array([7, 4, 7])).person_numbers().tolist()
        [1, 0, 1]
        """
        numbers = np.empty_like(self.order)
        people = np.arange(self.num_people, dtype=self.order.dtype)
        numbers[self.order] = np.repeat(people, self.counts)
        return numbers

    def take(self, people: NDArray[np.bool_]) -> Self:
        """Return the index of the people where the mask, (n,) bool, is true."""
        return type(self)(self.order, self.starts[people], self.counts[people])


def index_type(count: int) -> type[np.int32] | type[np.int64]:
    """Return the type of integers that number `count` things: int32 where it suffices."""
    return np.int32 if count < 2**31 else np.int64
