"""Find k-reciprocal neighbourhoods on a GPU, as padded rows (Zhong et al. 2017).

The N images are those of the query followed by those of the gallery. A neighbourhood has some tens
of images. All steps are gathers, comparisons and sorts of short rows, and each sum has one order,
so that every run gives the same bits.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from reidray.retrieval.neighbourhoods.weighted_neighbourhoods import (
    Neighbourhoods,
    RelativeDistances,
)

BYTES_PER_COMPARISON = 32
"""Memory for an image that is compared or sorted, with its copies."""


def padded_neighbourhoods(
    nearest: Tensor, k1: int, k2: int, relative_distances: RelativeDistances, memory_mb: float
) -> Neighbourhoods:
    """Return the neighbourhoods of all images (see `sparse_rows.sparse_neighbourhoods`)."""
    budget = int(memory_mb * 2**20 / 2 / BYTES_PER_COMPARISON)
    images = _reciprocal_neighbours(nearest, k1, budget)
    row, position = (images < len(images)).nonzero(as_tuple=True)
    weights = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
    weights[row, position] = torch.exp(-relative_distances(row, images[row, position]))
    total = torch.zeros_like(weights[:, 0])
    for column in weights.T:  # one order of summation
        total += column
    return _mean_of_rows(images, weights / total[:, None], nearest[:, :k2], budget)


def _reciprocal_neighbours(nearest: Tensor, k1: int, budget: int) -> Tensor:
    """Return the expanded k-reciprocal neighbours of every image.

    Args:
        nearest: (N, k1 + 1) int64, the nearest images of each image, itself included, best first.
        k1: Size of a neighbourhood.
        budget: Number of images to compare together.

    Returns:
        (N, L) int64, ascending in each row; N fills the end of a row.
    """
    count, width = nearest.shape
    narrow_width = round(k1 / 2) + 1
    wide, narrow = (_mutual(nearest[:, :size]) for size in (width, narrow_width))
    # Two different values stand for no image, so that they are never equal.
    own, theirs = nearest.where(wide, count), nearest[:, :narrow_width].where(narrow, -1)
    required = 2 / 3 * narrow.sum(dim=1).double()
    parts = []
    for rows in _row_blocks(count, budget // (width * narrow_width)):
        members = theirs[nearest[rows]]  # (R, k1 + 1, k1 / 2 + 1)
        shared = torch.zeros_like(members, dtype=torch.bool)
        for column in own[rows].T:
            shared |= members == column[:, None, None]
        added = wide[rows] & (shared.sum(dim=2) > required[nearest[rows]])
        members = members.where(added[:, :, None] & (members >= 0), count)
        parts.append(_distinct(torch.cat([own[rows], members.flatten(1)], dim=1), count))
    images = torch.cat(parts)
    longest = int((images < count).sum(dim=1).max())
    return images[:, :longest].contiguous()


def _mutual(nearest: Tensor) -> Tensor:
    """Return (N, k) bool, whether each of the k nearest (N, k) has the image of its row among its.

    Args:
        nearest: (N, k) int64.
    """
    index = torch.arange(len(nearest), device=nearest.device)[:, None]
    return torch.stack([(nearest[column] == index).any(dim=1) for column in nearest.T], dim=1)


def _distinct(images: Tensor, none: int) -> Tensor:
    """Return each image of a row (R, M) once, ascending; `none` fills the end of a row."""
    images = images.sort(dim=1).values
    images[:, 1:] = images[:, 1:].where(images[:, 1:] != images[:, :-1], none)
    return images.sort(dim=1).values


def _mean_of_rows(images: Tensor, weights: Tensor, members: Tensor, budget: int) -> Neighbourhoods:
    """Return neighbourhoods whose row i is the mean of the rows `members[i]`.

    Args:
        images: (N, L) int64, ascending in each row; N stands for no image.
        weights: (N, L) float64, 0 for no image.
        members: (N, k) int64, distinct within a row.
        budget: Number of images to sort together.
    """
    count, k = members.shape
    parts = []
    for rows in _row_blocks(count, budget // (k * images.shape[1])):
        # A stable sort keeps the weights of an image in the order of the members.
        found, order = images[members[rows]].flatten(1).sort(dim=1, stable=True)
        summands = weights[members[rows]].flatten(1).gather(1, order)
        total = summands.clone()
        for later in range(1, k):
            same = found[:, later:] == found[:, :-later]
            total[:, :-later] += summands[:, later:].where(same, 0)
        is_first = found < count
        is_first[:, 1:] &= found[:, 1:] != found[:, :-1]
        row, position = is_first.nonzero(as_tuple=True)
        mean = total[row, position] / k
        parts.append(Neighbourhoods(row + rows.start, found[row, position], mean))
    return Neighbourhoods(
        torch.cat([part.rows for part in parts]),
        torch.cat([part.images for part in parts]),
        torch.cat([part.weights for part in parts]),
    )


def _row_blocks(count: int, fitting: int) -> Iterator[slice]:
    step = max(1, fitting)
    for top in range(0, count, step):
        yield slice(top, min(top + step, count))
