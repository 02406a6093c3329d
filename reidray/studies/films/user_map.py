"""Map users to a plane, where users with similar ratings of genres are near each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

MAX_USERS = 5000
PERPLEXITY = 30


@dataclass(frozen=True, eq=False)
class UserMap:
    """Hold the coordinates of users.

    Attributes:
        indices: (M,) int64, the indices of the mapped users.
        coordinates: (M, 2) float32. Large distances have no meaning.
    """

    indices: NDArray[np.int64]
    coordinates: NDArray[np.float32]


def map_users(means: NDArray[np.float64], seed: int) -> UserMap:
    """Map users by t-SNE (van der Maaten and Hinton 2008); of more than 5,000 users, a sample.

    Args:
        means: (U, G) float64, the mean rating of each genre by each user; U is 2 or more.
        seed: the seed of the sample and of the initial coordinates.
    """
    indices = np.arange(len(means))
    if len(indices) > MAX_USERS:
        indices = np.sort(np.random.default_rng(seed).choice(indices, MAX_USERS, replace=False))
    perplexity = min(PERPLEXITY, (len(indices) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="random", random_state=seed)
    with threadpool_limits(1):  # sums keep their order
        return UserMap(indices, tsne.fit_transform(means[indices]))
