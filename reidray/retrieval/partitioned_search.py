"""Search a gallery that comes in parts, and merge the results of the parts.

Keys are exact, so the result depends neither on the split into parts nor on their order.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import (
    Integers,
    InvalidRowError,
    check_choice,
    check_count,
    check_distance,
    check_features,
)
from reidray.retrieval.arrow_features import to_matrix
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.exact_search import drop_farther, nearest
from reidray.retrieval.numerics import full_precision


@dataclass(frozen=True)
class Neighbours:
    """Hold the nearest images in a part of a gallery.

    Attributes:
        keys: (Q, N) float64 exact keys in the scale of the features, smallest first.
        indices: (Q, N) int64 indices of the images, ascending where keys are equal.
    """

    keys: NDArray[np.float64]
    indices: Integers

    def shift(self, offset: int) -> "Neighbours":
        """Return the same images in a gallery that has `offset` more images before them."""
        return Neighbours(self.keys, self.indices + offset)

    def to_distances(
        self, metric: str, max_distance: float | None
    ) -> tuple[NDArray[np.float32], Integers]:
        """Return distances (Q, N) float32 and indices; infinity and -1 beyond `max_distance`."""
        distances = build_distance_metric(metric).distance(torch.from_numpy(self.keys))
        indices = torch.from_numpy(self.indices)
        if max_distance is not None:
            drop_farther(distances, indices, max_distance)
        return distances.float().numpy(), indices.numpy()


@dataclass(frozen=True)
class PartitionedSearch:
    """Search the k nearest images of queries, part by part.

    Attributes:
        query: (Q, D) float32, all finite.
        k: Number of nearest images.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes.
    """

    query: NDArray[np.float32]
    k: int
    metric: str
    memory_mb: float

    @property
    def batch_size(self) -> int:
        """Return the number of images to search together: as float32, an eighth of the memory."""
        return max(1, int(self.memory_mb * 2**20 / 32 / self.query.shape[1]))

    def empty(self) -> Neighbours:
        """Return the neighbours in an empty part."""
        none = np.empty((len(self.query), 0))
        return Neighbours(none, none.astype(np.int64))

    def search_matrix(self, gallery: NDArray[np.generic]) -> Neighbours:
        """Return the nearest of some images (N, D) of any real dtype.

        Raises:
            InvalidRowError: A row holds a value that is not finite.
        """
        query, images, scale = check_features(self.query, gallery)
        metric, k = build_distance_metric(self.metric, scale), min(self.k, len(images))
        with full_precision(query.device):
            keys, indices = nearest(query, images.float(), k, metric, self.memory_mb / 2)
        return Neighbours(metric.unscaled(keys).numpy(), indices.numpy())

    def search_arrays(self, arrays: Iterable[pa.Array]) -> tuple[Neighbours, int]:
        """Return the nearest of all images in arrays of lists, and the number of these images.

        Raises:
            ValueError: The arrays do not hold lists of D numbers.
            InvalidRowError: A row is wrong; rows are counted from the first array.
        """
        best, images = self.empty(), 0
        for features in self._batches(arrays):
            with _counting_rows_from(images):
                found = self.search_matrix(features)
            best = self.merge([best, found.shift(images)])
            images += len(features)
        return best, images

    def merge(self, parts: Sequence[Neighbours]) -> Neighbours:
        """Return the nearest images of several parts of a gallery, in any order of the parts."""
        keys = np.concatenate([part.keys for part in parts], axis=1)
        indices = np.concatenate([part.indices for part in parts], axis=1)
        order = np.lexsort((indices, keys))[:, : self.k]
        return Neighbours(
            np.take_along_axis(keys, order, axis=1), np.take_along_axis(indices, order, axis=1)
        )

    def _batches(self, arrays: Iterable[pa.Array]) -> Iterator[NDArray[np.generic]]:
        """Yield features (N, D) of at most `batch_size` images, without a copy where possible."""
        waiting: list[NDArray[np.generic]] = []
        seen = 0
        for array in filter(len, arrays):
            with _counting_rows_from(seen):
                matrix = to_matrix(array, self.query.shape[1])
            seen += len(matrix)
            for start in range(0, len(matrix), self.batch_size):
                part = matrix[start : start + self.batch_size]
                if sum(map(len, waiting)) + len(part) > self.batch_size:
                    ready, waiting = _concatenate(waiting), []
                    yield ready
                waiting.append(part)
        if waiting:
            yield _concatenate(waiting)


def top_k_from_parts(
    query: NDArray[np.float32],
    parts: Iterable[tuple[Integers, NDArray[np.float32]]],
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], Integers]:
    """Return the k nearest images of each query in a gallery that comes in parts.

    The result has the same bits as that of `retrieval.top_k` over the whole gallery, for any split.

    >>> query = np.zeros((1, 1), np.float32)
    >>> parts = [
    ...     (np.array([0, 2]), np.array([[3], [2]], np.float32)),
    ...     (np.array([1]), np.array([[1]], np.float32)),
    ... ]
    >>> distances, indices = top_k_from_parts(query, parts, k=2)
    >>> distances.tolist(), indices.tolist()
    ([[1.0, 2.0]], [[1, 2]])

    Args:
        query: (Q, D) float32.
        parts: For each part the indices in the gallery, (N,) int64 ascending, and the features,
            (N, D) float32.
        k: Number of images; the whole gallery where it exceeds its size.
        metric: "euclidean", "cosine" or "l1".
        max_distance: Largest distance of an image; infinity and the index -1 replace images beyond
            it.
        memory_mb: Working memory in megabytes, beyond query, part and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    search = PartitionedSearch(query, k, metric, memory_mb)
    best = search.empty()
    for indices, features in parts:
        if not len(indices):
            continue
        found = search.search_matrix(features)
        best = search.merge([best, Neighbours(found.keys, indices[found.indices])])
    return best.to_distances(metric, max_distance)


def _concatenate(parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@contextmanager
def _counting_rows_from(first: int) -> Iterator[None]:
    """Add `first` to the index of an invalid row, to count it from the start of the gallery."""
    try:
        yield
    except InvalidRowError as error:
        raise InvalidRowError(error.name, first + error.row, error.reason) from None
