"""Find k-reciprocal neighbourhoods on a CPU, in sparse matrices (Zhong et al. 2017).

The N images are those of the query followed by those of the gallery. A row of a matrix holds the
neighbourhood of an image. A neighbourhood has some tens of entries, so memory and time grow
linearly with N.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from torch import Tensor

from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.neighbourhoods.weighted_neighbourhoods import (
    Neighbourhoods,
    RelativeDistances,
)

ROWS_AT_ONCE = 1 << 14
"""Neighbourhoods that are expanded together: about 30 MB at k1 = 20."""


def sparse_neighbourhoods(
    nearest: Tensor, k1: int, k2: int, relative_distances: RelativeDistances
) -> Neighbourhoods:
    """Return the neighbourhoods of all images.

    Args:
        nearest: (N, k1 + 1) int64, the nearest images of each image, itself included, best first.
        k1: Size of a neighbourhood.
        k2: Number of nearest images whose neighbourhoods are averaged.
        relative_distances: Computes the distances that decide the weights.
    """
    members = nearest.numpy()
    pattern = _reciprocal_neighbours(members, k1)
    pairs = torch.from_numpy(_row_indices(pattern)), torch.from_numpy(pattern.indices).long()
    weights = np.exp(-relative_distances(*pairs).numpy())
    mean = _mean_of_rows(_normalised_rows(pattern, weights), members[:, :k2])
    return Neighbourhoods(
        torch.from_numpy(_row_indices(mean)),
        torch.from_numpy(mean.indices).long(),
        torch.from_numpy(mean.data),
    )


def _reciprocal_neighbours(nearest: Integers, k1: int) -> csr_array:
    """Return the expanded k-reciprocal neighbours of every image.

    The k-reciprocal neighbours R(i, k) of image i are the images among the k nearest of i that
    have i among their own k nearest. The expanded set R*(i, k1) adds R(j, k1 / 2) for each j in
    R(i, k1) where |R(i, k1) & R(j, k1 / 2)| > 2 / 3 |R(j, k1 / 2)|.

    Args:
        nearest: (N, k1 + 1) int64, the nearest images of each image, itself included, best first.
        k1: Size of a neighbourhood.

    Returns:
        (N, N) int32; entry (i, j) is stored and positive where j is in R*(i, k1). Columns ascend
        within a row.
    """
    wide, narrow = _mutual(nearest), _mutual(nearest[:, : round(k1 / 2) + 1])
    required = 2 / 3 * narrow.sum(axis=1)
    narrow_columns = narrow.T.tocsr()
    parts = []
    for start in range(0, len(nearest), ROWS_AT_ONCE):
        own = wide[start : start + ROWS_AT_ONCE]
        # Entry (i, j): how many images of R(j, k1 / 2) are in R(i, k1), for each j in R(i, k1).
        shared = own.multiply(own @ narrow_columns).tocsr()
        shared.data = (shared.data > required[shared.indices]).astype(np.int32)
        shared.eliminate_zeros()
        parts.append(own + shared @ narrow)
    neighbours = vstack(parts, format="csr")
    neighbours.sort_indices()
    return neighbours


def _row_indices(matrix: csr_array) -> Integers:
    """Return the row (E,) of each of the E entries of a matrix."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _normalised_rows(pattern: csr_array, weights: NDArray[np.float64]) -> csr_array:
    """Return a matrix with the entries of `pattern` and with rows that sum to 1.

    Args:
        pattern: (N, N) with E entries.
        weights: (E,) float64, the weight of each entry.
    """
    rows = _row_indices(pattern)
    # Not `matrix.sum(axis=1)`: it adds in another order, which changes the last bits.
    sums = np.bincount(rows, weights=weights, minlength=pattern.shape[0])
    return csr_array((weights / sums[rows], pattern.indices, pattern.indptr), shape=pattern.shape)


def _mean_of_rows(matrix: csr_array, members: Integers) -> csr_array:
    """Return a matrix whose row i is the mean of the rows `members[i]` of `matrix`.

    Args:
        matrix: (N, N).
        members: (N, k) int64, distinct within a row.
    """
    selection = _selection(members, np.float64)
    mean = selection @ matrix
    mean.data /= members.shape[1]
    mean.sort_indices()
    return mean


def _mutual(nearest: Integers) -> csr_array:
    """Return (N, N) int32, 1 where two images are among the k nearest (N, k) of each other."""
    among_nearest = _selection(nearest, np.int32)
    return among_nearest.multiply(among_nearest.T.tocsr()).tocsr()


def _selection(columns: Integers, dtype: type[np.generic]) -> csr_array:
    """Return (N, N) with ones at the columns (N, k) of each row, in their given order."""
    count, k = columns.shape
    starts = np.arange(0, count * k + 1, k)
    ones = np.ones(count * k, dtype)
    return csr_array((ones, columns.ravel(), starts), shape=(count, count))
