"""Hold the nearest images of queries, and merge those of several parts of a gallery.

Keys are exact, so a merge has one result for any number, sizes and order of the parts. Everything
is NumPy, which travels between processes as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import Integers, check_count
from reidray.retrieval.distances import build_distance_metric
from reidray.retrieval.exact_search import without_farther


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Hold the nearest images of Q queries in a part of a gallery.

    Attributes:
        keys: (Q, N) float64 exact keys in the scale of the features, smallest first (see
            `distances`).
        indices: (Q, N) int64 indices of the images, ascending where keys are equal. -1 and an
            infinite key stand for no image; they come last.
    """

    keys: NDArray[np.float64]
    indices: Integers

    @staticmethod
    def empty(queries: int) -> "Neighbours":
        """Return the neighbours of queries in an empty part."""
        return Neighbours(np.empty((queries, 0)), np.empty((queries, 0), np.int64))

    def rows(self, queries: slice) -> "Neighbours":
        """Return the neighbours of a range of queries, as views."""
        return Neighbours(self.keys[queries], self.indices[queries])

    def first(self, k: int) -> "Neighbours":
        """Return the k nearest images of each query, as views."""
        return Neighbours(self.keys[:, :k], self.indices[:, :k])

    def shift(self, offset: int) -> "Neighbours":
        """Return the same images in a gallery that has `offset` more images before them."""
        return Neighbours(self.keys, np.where(self.indices < 0, -1, self.indices + offset))

    def at(self, positions: Integers) -> "Neighbours":
        """Return the same images in a gallery where image i has the index `positions[i]`.

        Args:
            positions: (N,) int64, ascending.
        """
        return Neighbours(self.keys, np.where(self.indices < 0, -1, positions[self.indices]))

    def to_distances(
        self, metric: str, max_distance: float | None = None
    ) -> tuple[NDArray[np.float32], Integers]:
        """Return distances (Q, N) float32 and indices; infinity and -1 beyond `max_distance`."""
        distances = build_distance_metric(metric).distance(torch.tensor(self.keys))
        indices = torch.tensor(self.indices)
        if max_distance is not None:
            distances, indices = without_farther(distances, indices, max_distance)
        return distances.float().numpy(), indices.numpy()


def merge_neighbours(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the k nearest images of each query in several parts of a gallery.

    The parts come in any order, and each image is in one of them. The result of a merge can be
    merged again, so that parts can be merged in a tree.

    >>> near = Neighbours(np.array([[1.0, 4.0]]), np.array([[7, 2]]))
    >>> far = Neighbours(np.array([[4.0, 9.0]]), np.array([[0, 5]]))
    >>> merge_neighbours([near, far], k=3).indices.tolist()  # 0 and 2 are equally near
    [[7, 0, 2]]

    Args:
        parts: Neighbours of the same queries, at least one.
        k: Number of images; all where it exceeds those of the parts.

    Returns:
        Neighbours (Q, at most k).
    """
    check_count("k", k)
    indices, order = _tensor([part.indices for part in parts]).sort(dim=1)
    # A stable sort keeps equal keys in the order of the indices.
    keys, by_key = _tensor([part.keys for part in parts]).gather(1, order).sort(dim=1, stable=True)
    nearest = by_key[:, :k].contiguous()
    return Neighbours(keys[:, :k].contiguous().numpy(), indices.gather(1, nearest).numpy())


def _tensor(arrays: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays, axis=1))
