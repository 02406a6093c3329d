"""Plan batches of P people with K crops each (Hermans et al. 2017)."""

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from reidray.data.sampling.crop_order import CropOrder
from reidray.data.sampling.person_index import Integers, PersonIndex
from reidray.data.sampling.piece_schedule import count_batches, schedule_pieces

Indices = NDArray[np.int64]


def count_identity_batches(people: PersonIndex, batch_people: int, batch_crops: int) -> int:
    """Return the number of batches of an epoch of `identity_batches`, without planning one.

    It is the number that uses every piece of K crops once: at least the pieces of all people
    divided by P, and the pieces of any person.

    >>> people = PersonIndex.from_person_ids(np.array([5, 5, 5, 8, 8, 9]))
    >>> count_identity_batches(people, 2, 2)
    2
    """
    return count_batches(_count_pieces(people, batch_crops), batch_people)


def identity_batches(
    people: PersonIndex,
    batch_people: int,
    batch_crops: int,
    *,
    seed: int,
    epoch: int,
    camera_ids: Integers | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Indices]:
    """Yield batches of P people with K crops each, which use every crop.

    The crops of a person are shuffled and divided into pieces of K; the last piece is filled with
    repeats. People are drawn in proportion to their pieces, so that no piece remains, and no person
    occurs twice in a batch. If too few people have pieces, people repeat crops to fill the batches.

    >>> people = PersonIndex.from_person_ids(np.array([5, 5, 5, 8, 8, 9]))
    >>> batches = identity_batches(people, 2, 2, seed=0, epoch=0)
    >>> [batch.shape for batch in batches]
    [(2, 2), (2, 2)]

    Args:
        people: the crops of each person.
        batch_people: P, at most the number of people.
        batch_crops: K.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.
        camera_ids: (N,) the camera of each crop, -32,768 to 32,767. If given, the crops of each
            camera are spread evenly over the pieces of a person.
        rank: the number of this worker.
        world_size: W, the number of workers.

    Yields:
        (P / W, K) int64 positions of crops: the people `rank`, `rank` + W, ... of each batch.
    """
    share = slice(rank, None, world_size)
    return _draw_batches(people, batch_people, batch_crops, [seed, epoch], camera_ids, share)


def count_balanced_batches(
    people: PersonIndex, dataset_indices: Integers, batch_people: int, batch_crops: int
) -> int:
    """Return the number of batches of an epoch of `balanced_batches`, without planning one."""
    shares = people_per_dataset(dataset_indices, batch_people)
    return max(
        count_identity_batches(own, share, batch_crops)
        for own, share in zip(_split_by_dataset(people, dataset_indices), shares, strict=True)
    )


def balanced_batches(
    people: PersonIndex,
    dataset_indices: Integers,
    batch_people: int,
    batch_crops: int,
    *,
    seed: int,
    epoch: int,
    camera_ids: Integers | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Indices]:
    """Yield batches of P people with K crops each, with as many people of each data set.

    Each set gives `people_per_dataset` people of a batch, drawn as by `identity_batches`. An epoch
    ends when every crop of every set was used; the sets that are through earlier start again.

    >>> people, sets = np.array([5, 6, 7, 8, 9, 9]), np.array([0, 0, 0, 0, 1, 1])
    >>> batches = balanced_batches(PersonIndex.from_person_ids(people), sets, 2, 1, seed=0, epoch=0)
    >>> [sets[batch[:, 0]].tolist() for batch in batches]
    [[0, 1], [0, 1], [0, 1], [0, 1]]

    Args:
        people: the crops of each person, who is in one data set.
        dataset_indices: (N,) the data set of each crop, from 0 without gaps.
        batch_people: P, at least the number of data sets.
        batch_crops: K.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.
        camera_ids: (N,) the camera of each crop, as in `identity_batches`.
        rank: the number of this worker.
        world_size: W, the number of workers.

    Yields:
        (P / W, K) int64 positions of crops: the people `rank`, `rank` + W, ... of each batch, in
        which the people of a data set follow each other.
    """
    shares = people_per_dataset(dataset_indices, batch_people)
    parts = _split_by_dataset(people, dataset_indices)
    before = np.cumsum([0, *shares])

    def draw(dataset: int) -> Iterator[Indices]:
        """Yield the batches of one pass over a data set after the other, without end."""
        own = slice((rank - before[dataset]) % world_size, None, world_size)
        for number in count():
            seeds = [seed, epoch, dataset, number]
            yield from _draw_batches(
                parts[dataset], shares[dataset], batch_crops, seeds, camera_ids, own
            )

    longest = count_balanced_batches(people, dataset_indices, batch_people, batch_crops)
    streams = zip(*map(draw, range(len(shares))), strict=True)
    return (np.concatenate(each) for each in islice(streams, longest))


def people_per_dataset(dataset_indices: Integers, batch_people: int) -> list[int]:
    """Return the people of each data set in a batch of P people, which differ by 1 at most.

    The data sets with the most crops have the additional ones.

    >>> people_per_dataset(np.array([0, 1, 1, 2, 2, 2]), 8)
    [2, 3, 3]

    Args:
        dataset_indices: (N,) the data set of each crop, from 0 without gaps.
        batch_people: P.
    """
    crops = np.bincount(dataset_indices)
    shares = np.full(len(crops), batch_people // len(crops))
    shares[np.argsort(-crops, kind="stable")[: batch_people % len(crops)]] += 1
    return [int(share) for share in shares]


def _count_pieces(people: PersonIndex, batch_crops: int) -> Integers:
    """Return the number of pieces of K crops of each person, (n,)."""
    return -(-people.counts // batch_crops)


def _split_by_dataset(people: PersonIndex, dataset_indices: Integers) -> list[PersonIndex]:
    """Return the people of each data set."""
    datasets = dataset_indices[people.order[people.starts]]
    return [people.take(datasets == each) for each in range(int(datasets.max()) + 1)]


def _draw_batches(
    people: PersonIndex,
    batch_people: int,
    batch_crops: int,
    seeds: list[int],
    camera_ids: Integers | None,
    share: slice,
) -> Iterator[Indices]:
    """Yield the rows `share` of each batch of `identity_batches`."""
    random = np.random.default_rng(seeds)
    order = CropOrder(people, camera_ids, key=int(random.integers(2**63)))
    pieces = _count_pieces(people, batch_crops)
    for block in schedule_pieces(pieces, batch_people, random):
        chosen, numbers = block.people[:, share], block.numbers[:, share]
        order.shuffle(chosen)
        crops = np.arange(batch_crops)
        number, each = numbers[:, :, None].astype(np.int64), chosen[:, :, None]
        if camera_ids is None:  # a piece is a run of the shuffled crops
            places = number * batch_crops + crops
        else:  # the crops are sorted by camera: a piece takes one of every few
            places = number + crops * pieces[each].astype(np.int64)
        yield from order.take(each, places)
