"""Which images are each other's neighbours, as sparse rows (Zhong et al. 2017).

Images are numbered through queries and gallery, N in all. A neighbourhood holds tens of images, so
everything here is of that size times N.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import Integers

AT_ONCE = 1 << 22
"""Comparisons of image numbers made in one step."""


@dataclass(frozen=True)
class SparseRows:
    """A matrix of N rows and N columns of which little is not zero.

    Attributes:
        starts: (N + 1,) int64, where each row begins.
        columns: (E,) int64, ascending within a row.
        values: (E,) float64.
    """

    starts: Integers
    columns: Integers
    values: NDArray[np.float64]

    def __len__(self) -> int:
        """N."""
        return len(self.starts) - 1

    def rows(self) -> Integers:
        """(E,) the row of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def transposed(self) -> "SparseRows":
        """The same with rows and columns exchanged."""
        order = self.columns.argsort(kind="stable")
        counts = np.bincount(self.columns, minlength=len(self))
        return SparseRows(_starts(counts), self.rows()[order], self.values[order])

    def mean_of(self, members: Integers) -> "SparseRows":
        """Rows that are each the mean of `members` (N, k) rows of this matrix."""
        lengths = np.diff(self.starts)[members]
        owner = np.repeat(np.arange(len(members)), lengths.sum(axis=1))
        entries = entries_of(self.starts, members.ravel())
        keys, place = np.unique(owner * len(self) + self.columns[entries], return_inverse=True)
        sums = np.bincount(place, weights=self.values[entries])
        return _from_keys(keys, sums / members.shape[1], len(members))


def entries_of(starts: Integers, rows: Integers) -> Integers:
    """The entries of some rows of a sparse matrix, one row after the other."""
    lengths = np.diff(starts)[rows]
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) + np.repeat(starts[rows] - before, lengths))


def reciprocal_neighbours(nearest: Integers, k1: int) -> Integers:
    """The expanded k-reciprocal neighbours of every image.

    An image's k1-reciprocal neighbours are those of its k1 nearest that have it among theirs. Those
    of a neighbour, with half of k1, are added where more than two thirds of them are already in.

    Args:
        nearest: (N, k1 + 1) int64, each image's nearest, itself included, best first.
        k1: size of a neighbourhood.

    Returns:
        (P,) int64 ascending, `image * N + neighbour`.
    """
    images, half = len(nearest), round(k1 / 2) + 1
    wide, narrow = _mutual(nearest), _mutual(nearest[:, :half])
    sizes = narrow.sum(axis=1)
    found = []
    step = max(1, AT_ONCE // (nearest.shape[1] ** 2 * half))
    for top in range(0, images, step):
        near, mutual = nearest[top : top + step], wide[top : top + step]
        image = np.arange(top, top + len(near))[:, None]
        found.append((image * images + near)[mutual])
        # (B, K, half): the narrow neighbourhoods of each image's neighbours.
        theirs, belong = nearest[near, :half], narrow[near]
        own = np.where(mutual, near, -1)
        shared = (theirs[..., None] == own[:, None, None, :]).any(axis=3) & belong
        joins = mutual & (shared.sum(axis=2) > 2 / 3 * sizes[near])
        found.append((image[..., None] * images + theirs)[belong & joins[..., None]])
    return np.unique(np.concatenate(found))


def normalised_rows(pairs: Integers, weights: NDArray[np.float64], images: int) -> SparseRows:
    """The weights of pairs (`image * N + neighbour`, ascending), each row brought to the sum 1."""
    sums = np.bincount(pairs // images, weights=weights, minlength=images)
    return _from_keys(pairs, weights / sums[pairs // images], images)


def _mutual(nearest: Integers) -> NDArray[np.bool_]:
    """(N, k) whether an image is among the k nearest of its neighbour too."""
    mutual = np.empty(nearest.shape, dtype=bool)
    step = max(1, AT_ONCE // nearest.shape[1] ** 2)
    for top in range(0, len(nearest), step):
        near = nearest[top : top + step]
        image = np.arange(top, top + len(near))[:, None, None]
        mutual[top : top + step] = (nearest[near] == image).any(axis=2)
    return mutual


def _from_keys(keys: Integers, values: NDArray[np.float64], rows: int) -> SparseRows:
    counts = np.bincount(keys // rows, minlength=rows)
    return SparseRows(_starts(counts), keys % rows, values)


def _starts(counts: Integers) -> Integers:
    return np.concatenate([[0], np.cumsum(counts)])
