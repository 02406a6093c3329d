"""Plan the batches of an epoch from the seed and the number of the epoch alone.

A plan consists of global batches. Of W workers, worker r takes the people (or the crops) r, r + W,
... of each batch, so that a seed gives the same global batches for any number of workers.
"""

from collections.abc import Iterator

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

    def cut(indices: Indices) -> Indices:
        shuffled = random.permutation(indices)
        if camera_ids is None:
            return _pieces(shuffled, batch_crops)
        by_camera = shuffled[np.argsort(camera_ids[shuffled], kind="stable")]
        return _spread(by_camera, batch_crops)

    pieces = [cut(indices) for indices in _indices_by_person(person_ids)]
    left = np.array([len(parts) for parts in pieces])
    fillers = [cut(parts.reshape(-1)) for parts in pieces]
    batches_left = max(-(-int(left.sum()) // batch_people), int(left.max()))
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


def shuffled_batches(count: int, size: int, *, seed: int, epoch: int) -> Iterator[Indices]:
    """Yield batches of a fixed size over shuffled images; fill the last batch with repeats.

    Args:
        count: the number of images, at least `size`.
        size: the number of images of a batch.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.

    Yields:
        (size,) int64 indices from 0 to count - 1.
    """
    shuffled = np.random.default_rng([seed, epoch]).permutation(count)
    batches = -(-count // size)
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
