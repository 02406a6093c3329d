"""Distribute the pieces of people over the batches of an epoch, no two of a person in one batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data.sampling.person_index import Integers, index_type

PIECES_AT_ONCE = 2**14
"""Approximate number of pieces whose batches are mixed and handed out together."""

MIXING_ROUNDS = 2


@dataclass(frozen=True)
class PieceBlock:
    """Hold the pieces of some consecutive batches.

    Attributes:
        people: (B, P) the person of each piece.
        numbers: (B, P) the number of the piece among those of its person, from 0. Numbers beyond
            the pieces of a person are repeats.
    """

    people: Integers
    numbers: Integers


def count_batches(pieces: Integers, batch_people: int) -> int:
    """Return the number of batches of different people that use every piece once.

    >>> count_batches(np.array([3, 1, 1]), 2)
    3

    Args:
        pieces: (n,) number of pieces of each person.
        batch_people: number of people of a batch.
    """
    return max(-(-int(pieces.sum()) // batch_people), int(pieces.max()))


def schedule_pieces(
    pieces: Integers, batch_people: int, random: np.random.Generator
) -> Iterator[PieceBlock]:
    """Yield the pieces of all batches of an epoch. Each piece of a person is in one batch.

    A person with c of the pieces is in c of the batches, drawn with equal chances, so that people
    come up in proportion to their pieces from the first batch to the last. Where pieces do not fill
    the batches, people get repeats, as evenly as possible.

    The pieces of all people, in a random order of the people, form a row that is cut into P layers
    of one piece for each batch (the wrap-around rule of McNaughton 1959). Each layer is shuffled. A
    person in two layers gets different batches in both. Batches then exchange people.

    Args:
        pieces: (n,) number of pieces of each person, 1 or more.
        batch_people: P, at most n.
        random: generator of the random numbers.
    """
    batches = count_batches(pieces, batch_people)
    total = batches * batch_people
    kind: Any = index_type(total)
    order: Integers = random.permutation(len(pieces)).astype(kind)
    counts: Integers = _fill_up(pieces.astype(np.int64), order, batches, total).astype(kind)
    ends = np.cumsum(counts[order], dtype=kind)
    starts = np.empty_like(ends)  # of each person in the row
    starts[order] = ends - counts[order]
    person_of = np.repeat(order, counts[order])
    layers = _shuffle_layers(person_of, starts, batches, random)
    step = max(2, PIECES_AT_ONCE // batch_people)
    for first in range(0, batches, step):
        places = _mix(layers[:, first : first + step].T, person_of, random)
        people = person_of[places]
        yield PieceBlock(people, places - starts[people])


def _fill_up(
    pieces: NDArray[np.int64], order: Integers, batches: int, total: int
) -> NDArray[np.int64]:
    """Return the pieces of each person with repeats, `total` together and `batches` at most.

    Args:
        pieces: (n,) number of pieces of each person.
        order: (n,) order in which people get the repeats that are left.
        batches: number of batches.
        total: number of pieces that fill the batches.
    """
    missing = total - int(pieces.sum())
    room = batches - pieces
    low, high = 0, batches  # the most repeats that all people with room can have alike
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if np.minimum(room, middle).sum() <= missing else (low, middle - 1)
        )
    counts = pieces + np.minimum(room, low)
    others = order[room[order] > low][: total - int(counts.sum())]
    counts[others] += 1
    return counts


def _shuffle_layers(
    person_of: Integers, starts: Integers, batches: int, random: np.random.Generator
) -> Integers:
    """Return the place in the row of pieces that each batch takes in each layer.

    Args:
        person_of: (P * batches,) the person of each place in the row.
        starts: (n,) the first place of each person.
        batches: number of batches.
        random: generator of the random numbers.

    Returns:
        (P, batches) places.
    """
    people = len(person_of) // batches
    layers = np.empty((people, batches), dtype=person_of.dtype)
    taken = np.empty(0, dtype=np.int64)  # batches with the person who continues in this layer
    for layer in range(people):
        first, end = layer * batches, (layer + 1) * batches
        batch_of = random.permutation(batches)
        if len(taken):
            continued = int(np.searchsorted(person_of[first:end] != person_of[first], True))
            _avoid(batch_of, continued, taken)
        layers[layer, batch_of] = np.arange(first, end, dtype=layers.dtype)
        continues = end < len(person_of) and person_of[end] == person_of[end - 1]
        taken = batch_of[int(starts[person_of[end]]) - first :] if continues else taken[:0]
    return layers


def _avoid(batch_of: NDArray[np.int64], count: int, taken: NDArray[np.int64]) -> None:
    """Exchange batches so that none of the first `count` is one of those taken."""
    is_taken = np.zeros(len(batch_of), dtype=np.bool_)
    is_taken[taken] = True
    wrong = np.flatnonzero(is_taken[batch_of[:count]])
    free = count + np.flatnonzero(~is_taken[batch_of[count:]])[: len(wrong)]
    batch_of[wrong], batch_of[free] = batch_of[free], batch_of[wrong]


def _mix(places: Integers, person_of: Integers, random: np.random.Generator) -> Integers:
    """Deal the pieces of pairs of batches anew, so that any two people can meet in a batch.

    Args:
        places: (B, P) places of the pieces in the row.
        person_of: the person of each place.
        random: generator of the random numbers.
    """
    mixed = places.copy()
    batches, people = places.shape
    half = batches // 2
    for _ in range(MIXING_ROUNDS if half else 0):
        chosen = random.permutation(batches)[: 2 * half].reshape(half, 2)
        both = mixed[chosen].reshape(half, 2 * people)
        by_person = np.argsort(person_of[both], axis=1, kind="stable")
        both = np.take_along_axis(both, by_person, axis=1)
        same = np.diff(person_of[both], axis=1) == 0
        keys = random.integers(1, 2**31 - 1, size=both.shape, dtype=np.int32)
        keys[:, :-1][same] = 0  # a person of both batches stays in both
        keys[:, 1:][same] = 2**31 - 1
        dealt = np.argsort(keys, axis=1, kind="stable")
        mixed[chosen] = np.take_along_axis(both, dealt, axis=1).reshape(half, 2, people)
    return mixed
