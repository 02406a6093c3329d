"""Plan the batches of an epoch from the seed and the number of the epoch alone.

A plan consists of global batches. Of W workers, worker r takes the people (or the crops) r, r + W,
... of each batch, so that a seed gives the same global batches for any number of workers.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from reidray.errors import UserError

Indices = NDArray[np.int64]


def check_identity_batch(
    person_ids: Indices, batch_people: int, batch_crops: int, workers: int
) -> None:
    """Check that training images can fill batches of P people with K crops each.

    Args:
        person_ids: (N,) int64, the person of each training image.
        batch_people: P, the people of a global batch.
        batch_crops: K, the crops of each person.
        workers: the number of processes that share each batch.

    Raises:
        UserError: there are fewer than P people, or P people cannot be divided among the workers.
    """
    available = len(np.unique(person_ids))
    if available < batch_people:
        raise UserError(
            f"a batch of {batch_people} people x {batch_crops} crops needs {batch_people} people "
            f"and the training images show {available}: "
            f"{_fitting_batch(available, batch_people, workers)}"
        )
    if batch_people % workers or batch_people // workers < 2:
        raise UserError(
            f"a batch of {batch_people} people cannot be shared by {workers} workers: each needs "
            f"the same number, at least 2: {_fitting_batch(available, batch_people, workers)}"
        )


def check_balanced_batch(
    person_ids: Indices, dataset_indices: Indices, names: Sequence[str], batch_people: int
) -> None:
    """Check that each data set has the people that it gives a batch of P.

    Args:
        person_ids: (N,) int64, the person of each training image.
        dataset_indices: (N,) int64, the data set of each training image.
        names: the names of the data sets.
        batch_people: P.

    Raises:
        UserError: a set has too few people, or there are more sets than people in a batch.
    """
    shares = people_per_dataset(dataset_indices, batch_people)
    if min(shares) == 0:
        raise UserError(
            f"`batch.dataset_shares=equal` takes people of each of {len(names)} data sets, and "
            f"`batch.people` is {batch_people}: use {len(names)} or more"
        )
    for index, (name, share) in enumerate(zip(names, shares, strict=True)):
        available = len(np.unique(person_ids[dataset_indices == index]))
        if available < share:
            raise UserError(
                f"{name}: has {available} training people, and `batch.dataset_shares=equal` takes "
                f"{share} of its people for each batch of {batch_people}: use "
                f"`batch.people={max(available * len(names), 2)}` or fewer, or proportional shares"
            )


def _fitting_batch(available: int, requested: int, workers: int) -> str:
    """Return the advice on a number of people that the images have and the workers can share."""
    if available < 2:
        return "add people, as training needs 2 or more"
    most = max(min(available, requested) // workers, 2) * workers
    if most <= available:
        return f"use `batch.people={most}`" + (" or fewer" if workers == 1 else "")
    fewer = available // 2
    return f"use `num_workers={fewer}` and `batch.people={2 * fewer}`"


def identity_batches(
    person_ids: Indices,
    batch_people: int,
    batch_crops: int,
    *,
    seed: int,
    epoch: int,
    camera_ids: Indices | None = None,
) -> Iterator[Indices]:
    """Yield batches of P people with K crops each, which use every crop (Hermans et al. 2017).

    The crops of a person are shuffled and divided into pieces of K; the last piece is filled with
    repeats. People are drawn in proportion to their remaining pieces, so that no piece remains, and
    no person occurs twice in a batch. If too few people have pieces left, others fill the batch.

    >>> batches = identity_batches(np.array([5, 5, 5, 8, 8, 9]), 2, 2, seed=0, epoch=0)
    >>> [batch.shape for batch in batches]
    [(2, 2), (2, 2)]

    Args:
        person_ids: (N,) int64, the person of each crop.
        batch_people: P, at most the number of people.
        batch_crops: K.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.
        camera_ids: (N,) int64, the camera of each crop. If given, the crops of each camera are
            spread evenly over the pieces of a person.

    Yields:
        (P, K) int64 indices in `person_ids`, with a row for each person.
    """
    random = np.random.default_rng([seed, epoch])
    return _draw_batches(person_ids, batch_people, batch_crops, random, camera_ids)


def balanced_batches(
    person_ids: Indices,
    dataset_indices: Indices,
    batch_people: int,
    batch_crops: int,
    *,
    seed: int,
    epoch: int,
    camera_ids: Indices | None = None,
) -> Iterator[Indices]:
    """Yield batches of P people with K crops each, with as many people of each data set.

    Each set gives `people_per_dataset` people of a batch, drawn as by `identity_batches`. An epoch
    ends when every crop of every set was used; the sets that are through earlier start again.

    >>> people, sets = np.array([5, 6, 7, 8, 8, 9]), np.array([0, 0, 0, 0, 1, 1])
    >>> batches = balanced_batches(people, sets, 2, 1, seed=0, epoch=0)
    >>> [sets[batch[:, 0]].tolist() for batch in batches]
    [[0, 1], [0, 1], [0, 1], [0, 1]]

    Args:
        person_ids: (N,) int64, the person of each crop. Each is in one data set.
        dataset_indices: (N,) int64, the data set of each crop, from 0 without gaps.
        batch_people: P, at least the number of data sets.
        batch_crops: K.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.
        camera_ids: (N,) int64, the camera of each crop, as in `identity_batches`.

    Yields:
        (P, K) int64 indices in `person_ids`, with a row for each person; the rows of a data set
        follow each other.
    """
    shares = people_per_dataset(dataset_indices, batch_people)
    rows = [np.flatnonzero(dataset_indices == dataset) for dataset in range(len(shares))]

    def draw(dataset: int) -> Iterator[Indices]:
        """Yield the batches of one pass over a data set after the other, without end."""
        own = rows[dataset]
        cameras = None if camera_ids is None else camera_ids[own]
        for number in count():
            random = np.random.default_rng([seed, epoch, dataset, number])
            drawn = _draw_batches(person_ids[own], shares[dataset], batch_crops, random, cameras)
            yield from (own[batch] for batch in drawn)

    longest = max(
        _count_batches(person_ids[own], people, batch_crops)
        for own, people in zip(rows, shares, strict=True)
    )
    streams = zip(*map(draw, range(len(shares))), strict=True)
    return (np.concatenate(parts) for parts in islice(streams, longest))


def people_per_dataset(dataset_indices: Indices, batch_people: int) -> list[int]:
    """Return the people of each data set in a batch of P people, which differ by 1 at most.

    The data sets with the most crops have the additional ones.

    >>> people_per_dataset(np.array([0, 1, 1, 2, 2, 2]), 8)
    [2, 3, 3]

    Args:
        dataset_indices: (N,) int64, the data set of each crop, from 0 without gaps.
        batch_people: P.
    """
    crops = np.bincount(dataset_indices)
    shares = np.full(len(crops), batch_people // len(crops))
    shares[np.argsort(-crops, kind="stable")[: batch_people % len(crops)]] += 1
    return [int(share) for share in shares]


def _count_batches(person_ids: Indices, batch_people: int, batch_crops: int) -> int:
    """Return the number of batches that use every crop once."""
    _, crops = np.unique(person_ids, return_counts=True)
    pieces = -(-crops // batch_crops)
    return max(-(-int(pieces.sum()) // batch_people), int(pieces.max()))


def _draw_batches(
    person_ids: Indices,
    batch_people: int,
    batch_crops: int,
    random: np.random.Generator,
    camera_ids: Indices | None,
) -> Iterator[Indices]:
    """Yield the batches of `identity_batches` from the draws of a generator."""

    def cut(indices: Indices) -> Indices:
        shuffled = random.permutation(indices)
        if camera_ids is None:
            return _pieces(shuffled, batch_crops)
        by_camera = shuffled[np.argsort(camera_ids[shuffled], kind="stable")]
        return _spread(by_camera, batch_crops)

    pieces = [cut(indices) for indices in _indices_by_person(person_ids)]
    left = np.array([len(parts) for parts in pieces])
    fillers = [cut(parts.reshape(-1)) for parts in pieces]
    batches_left = _count_batches(person_ids, batch_people, batch_crops)
    while batches_left > 0:
        chosen = _draw_people(left, batch_people, batches_left, random)
        yield np.stack(
            [
                pieces[p][left[p] - 1] if left[p] else fillers[p][batches_left % len(fillers[p])]
                for p in chosen
            ]
        )
        left[chosen] = np.maximum(left[chosen] - 1, 0)
        batches_left -= 1


def shuffled_batches(num_images: int, size: int, *, seed: int, epoch: int) -> Iterator[Indices]:
    """Yield batches of a fixed size over shuffled images; fill the last batch with repeats.

    Args:
        num_images: the number of images, at least `size`.
        size: the number of images of a batch.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.

    Yields:
        (size,) int64 indices from 0 to num_images - 1.
    """
    shuffled = np.random.default_rng([seed, epoch]).permutation(num_images)
    batches = -(-num_images // size)
    yield from np.resize(shuffled, batches * size).reshape(batches, size)


def _indices_by_person(person_ids: Indices) -> list[Indices]:
    """Return the indices of the crops of each person, in the order of the ids."""
    order = np.argsort(person_ids, kind="stable")
    _, starts = np.unique(person_ids[order], return_index=True)
    return np.split(order, starts[1:])


def _pieces(indices: Indices, size: int) -> Indices:
    """Divide indices into pieces, (pieces, size); fill the last piece with repeats."""
    count = -(-len(indices) // size)
    return np.resize(indices, count * size).reshape(count, size)


def _spread(indices: Indices, size: int) -> Indices:
    """Divide indices into pieces, (pieces, size), with consecutive indices in different pieces."""
    count = -(-len(indices) // size)
    return np.resize(indices, count * size).reshape(size, count).T


def _draw_people(
    left: Indices, count: int, batches_left: int, random: np.random.Generator
) -> Indices:
    """Draw distinct people in proportion to their remaining pieces.

    People with a piece left for every remaining batch are drawn first.
    """
    with np.errstate(divide="ignore"):
        weight = np.log(left) + random.gumbel(size=len(left))
    weight[left >= batches_left] = np.inf
    weight[left == 0] = -1e9 + random.random(int((left == 0).sum()))
    chosen: Indices = np.argpartition(-weight, count - 1)[:count]
    return chosen
