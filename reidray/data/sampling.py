"""Which crops meet in a batch: a plan for an epoch, from seed and epoch alone.

A plan is made of global batches. With W workers, worker r takes the people (or the crops) r, r + W,
... of each, so that the same seed gives the same global batches for any number of workers.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reidray.errors import UserError

Indices = NDArray[np.int64]


def check_identity_batch(
    people: Indices, batch_people: int, batch_crops: int, workers: int
) -> None:
    """Refuse a batch of P people times K crops that these images cannot fill.

    Args:
        people: (N,) int64, the person of each training image.
        batch_people: P.
        batch_crops: K.
        workers: processes that share each batch.

    Raises:
        UserError: fewer than P people, or people that do not divide among the workers.
    """
    available = len(np.unique(people))
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


def _fitting_batch(available: int, asked: int, workers: int) -> str:
    """Say which flags make a batch that these people can fill and these workers can share."""
    if available < 2:
        return "add people, for training needs 2 or more"
    most = max(min(available, asked) // workers, 2) * workers
    if most <= available:
        return f"use --batch.people {most}" + (" or fewer" if workers == 1 else "")
    fewer = available // 2
    return f"use --num-workers {fewer} and --batch.people {2 * fewer}"


def identity_batches(
    people: Indices,
    batch_people: int,
    batch_crops: int,
    *,
    seed: int,
    epoch: int,
    cameras: Indices | None = None,
) -> Iterator[Indices]:
    """Batches of P people with K crops each; everybody has a turn (Hermans et al. 2017).

    A person's crops are shuffled and cut in pieces of K, the last one completed with repeats.
    People are drawn in proportion to the pieces they have left, so that none is left over, and no
    person comes twice in a batch. Where too few people have pieces left, others fill the batch.

    Args:
        people: (N,) int64, the person of each crop.
        batch_people: P, at most the number of people.
        batch_crops: K.
        seed: of the whole training.
        epoch: from 0.
        cameras: (N,) int64, the camera of each crop. Where they are given, the crops of each
            camera are spread evenly over the person's pieces.

    Yields:
        (P, K) int64 positions in `people`, one row a person.
    """
    random = np.random.default_rng([seed, epoch])

    def cut(indices: Indices) -> Indices:
        shuffled = random.permutation(indices)
        if cameras is None:
            return _pieces(shuffled, batch_crops)
        by_camera = shuffled[np.argsort(cameras[shuffled], kind="stable")]
        return _dealt(by_camera, batch_crops)

    pieces = [cut(indices) for indices in _rows_by_person(people)]
    left = np.array([len(parts) for parts in pieces])
    spare = [cut(parts.reshape(-1)) for parts in pieces]
    batches_left = max(-(-int(left.sum()) // batch_people), int(left.max()))
    while batches_left > 0:
        chosen = _draw_people(left, batch_people, batches_left, random)
        yield np.stack(
            [
                pieces[p][left[p] - 1] if left[p] else spare[p][batches_left % len(spare[p])]
                for p in chosen
            ]
        )
        left[chosen] = np.maximum(left[chosen] - 1, 0)
        batches_left -= 1


def shuffled_batches(count: int, size: int, *, seed: int, epoch: int) -> Iterator[Indices]:
    """Batches of a fixed size over shuffled images; the last one is completed with repeats.

    Args:
        count: how many images there are, at least `size`.
        size: of a batch.
        seed: of the whole training.
        epoch: from 0.

    Yields:
        (size,) int64 positions in 0..count.
    """
    shuffled = np.random.default_rng([seed, epoch]).permutation(count)
    batches = -(-count // size)
    yield from np.resize(shuffled, batches * size).reshape(batches, size)


def _rows_by_person(people: Indices) -> list[Indices]:
    """Positions of each person's crops, people ascending."""
    order = np.argsort(people, kind="stable")
    _, starts = np.unique(people[order], return_index=True)
    return np.split(order, starts[1:])


def _pieces(indices: Indices, size: int) -> Indices:
    """The indices cut in pieces, (pieces, size); the last one completed with repeats."""
    count = -(-len(indices) // size)
    return np.resize(indices, count * size).reshape(count, size)


def _dealt(indices: Indices, size: int) -> Indices:
    """The indices dealt out like cards: those that follow each other come into different pieces."""
    count = -(-len(indices) // size)
    return np.resize(indices, count * size).reshape(size, count).T


def _draw_people(
    left: Indices, count: int, batches_left: int, random: np.random.Generator
) -> Indices:
    """Distinct people in proportion to what they have left; first those every batch needs."""
    with np.errstate(divide="ignore"):
        weight = np.log(left) + random.gumbel(size=len(left))
    weight[left >= batches_left] = np.inf
    weight[left == 0] = -1e9 + random.random(int((left == 0).sum()))
    chosen: Indices = np.argpartition(-weight, count - 1)[:count]
    return chosen
