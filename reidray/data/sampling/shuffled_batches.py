"""Plan batches of shuffled images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reidray.data.sampling.person_index import index_type


def shuffled_batches(
    num_images: int, size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of a fixed size over shuffled images; fill the last batch with repeats.

    >>> [len(batch) for batch in shuffled_batches(5, 4, seed=0, epoch=0)]
    [4, 4]

    Args:
        num_images: the number of images, at least `size`.
        size: the number of images of a batch.
        seed: the seed of the whole training.
        epoch: the number of the epoch, from 0.
        rank: the number of this worker.
        world_size: W, the number of workers.

    Yields:
        int64 numbers from 0 to num_images - 1: the images `rank`, `rank` + W, ... of each batch.
    """
    shuffled = np.arange(num_images, dtype=index_type(num_images))
    np.random.default_rng([seed, epoch]).shuffle(shuffled)
    for first in range(0, num_images, size):
        batch = shuffled[first : first + size]
        if len(batch) < size:
            batch = np.concatenate([batch, shuffled[: size - len(batch)]])
        yield batch[rank::world_size].astype(np.int64)
