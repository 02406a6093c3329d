"""Check that training images can fill batches of people, before a training starts."""

from collections.abc import Sequence

import numpy as np

from reidray.data.sampling.identity_batches import people_per_dataset
from reidray.data.sampling.person_index import Integers, PersonIndex
from reidray.errors import UserError


def check_identity_batch(
    people: PersonIndex, batch_people: int, batch_crops: int, workers: int
) -> None:
    """Check that training images can fill batches of P people with K crops each.

    Args:
        people: the people of the training images.
        batch_people: P, the people of a global batch.
        batch_crops: K, the crops of each person.
        workers: the number of processes that share each batch.

    Raises:
        UserError: there are fewer than P people, or P people cannot be divided among the workers.
    """
    available = people.num_people
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
    people: PersonIndex, dataset_indices: Integers, names: Sequence[str], batch_people: int
) -> None:
    """Check that each data set has the people that it gives a batch of P.

    Args:
        people: the people of the training images.
        dataset_indices: (N,) the data set of each training image.
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
    people_of = np.bincount(dataset_indices[people.order[people.starts]], minlength=len(names))
    for name, share, available in zip(names, shares, people_of.tolist(), strict=True):
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
