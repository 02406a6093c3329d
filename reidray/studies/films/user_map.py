"""Users on a plane, those who rate genres alike near each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

MOST_USERS = 5000
PERPLEXITY = 30


@dataclass(frozen=True, eq=False)
class UserMap:
    """Users on a plane.

    Attributes:
        rows: (M,) int64, which users are on it.
        places: (M, 2) float32; only nearness means something.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.float32]


def map_users(means: NDArray[np.float64], seed: int) -> UserMap:
    """t-SNE of users (van der Maaten and Hinton 2008), of 5,000 drawn ones where there are more.

    Args:
        means: (U, G) float64, each user's mean of each genre; U is at least 2.
        seed: of the draw and of the places that users start from.
    """
    rows = np.arange(len(means))
    if len(rows) > MOST_USERS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_USERS, replace=False))
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="random", random_state=seed)
    with threadpool_limits(1):  # sums keep their order
        return UserMap(rows, tsne.fit_transform(means[rows]))
