"""Search a gallery that comes in parts.

Keys are exact, so the result depends neither on the split into parts nor on their order. Parts come
as NumPy arrays and are searched on one device. The nearest images of the parts before limit the
search of the next: an image that is farther than the k-th of them is not looked at.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.data.device_copies import to_device
from reidray.retrieval.array_inputs import (
    Integers,
    InvalidRowError,
    as_features,
    check_choice,
    check_count,
    check_distance,
    check_features,
)
from reidray.retrieval.arrow_features import to_matrix
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.exact_search import nearest
from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.retrieval.numerics import full_precision

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PartitionedSearch:
    """Search the k nearest images of queries, part by part.

    Attributes:
        query: (Q, D) float32, all finite.
        k: Number of nearest images.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes.
        device: Device that computes.
    """

    query: NDArray[np.float32]
    k: int
    metric: str
    memory_mb: float
    device: torch.device = CPU

    @property
    def batch_size(self) -> int:
        """Return the number of images to search together: as float32, an eighth of the memory."""
        return max(1, int(self.memory_mb * 2**20 / 32 / self.query.shape[1]))

    def empty(self) -> Neighbours:
        """Return the neighbours in an empty part."""
        return Neighbours.empty(len(self.query))

    def search_matrix(
        self, gallery: NDArray[np.generic], known: Neighbours | None = None
    ) -> Neighbours:
        """Return the nearest of some images (N, D) of any real dtype.

        Args:
            gallery: Features of the images.
            known: Neighbours in other parts. Images that cannot be among the k nearest beside them
                may be missing from the result.

        Raises:
            InvalidRowError: A row holds a value that is not finite.
        """
        on_device = to_device(as_features("gallery", gallery), self.device)
        query, images, scale = check_features(self._query_on_device, on_device)
        metric, k = build_distance_metric(self.metric, scale), min(self.k, len(images))
        limit = None
        if known is not None and known.keys.shape[1] >= self.k:
            kth = torch.tensor(known.keys[:, self.k - 1])
            limit = metric.scaled(to_device(kth, self.device))
        with full_precision(self.device):
            keys, indices = nearest(
                query, images.float(), k, metric, self.memory_mb / 2, limit=limit
            )
        return Neighbours(metric.unscaled(keys).cpu().numpy(), indices.cpu().numpy())

    def update(
        self, best: Neighbours, gallery: NDArray[np.generic], positions: Integers | int
    ) -> Neighbours:
        """Return the nearest of images found before and of the images of a further part.

        Faster than `search_matrix` and a merge: `best` limits what is looked at.

        Args:
            best: Neighbours in other parts, or `empty()`.
            gallery: (N, D) features of any real dtype; N may be 0.
            positions: Index of each image in the whole gallery, (N,) int64 ascending; or that of
                the first, where the others follow it.

        Raises:
            InvalidRowError: A row holds a value that is not finite.
        """
        if not len(gallery):
            return best
        found = self.search_matrix(gallery, best)
        if isinstance(positions, int | np.integer):
            found = found.shift(int(positions))
        else:
            found = found.at(positions)
        return merge_neighbours([best, found], self.k)

    def search_arrays(self, arrays: Iterable[pa.Array]) -> tuple[Neighbours, int]:
        """Return the nearest of all images in arrays of lists, and the number of these images.

        Raises:
            ValueError: The arrays do not hold lists of D numbers.
            InvalidRowError: A row is wrong; rows are counted from the first array.
        """
        best, images = self.empty(), 0
        for features in self._batches(arrays):
            with _counting_rows_from(images):
                best = self.update(best, features, images)
            images += len(features)
        return best, images

    @cached_property
    def _query_on_device(self) -> Tensor:
        return to_device(as_features("query", self.query), self.device)

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
    device: str | torch.device = CPU,
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
        device: Device that searches, such as "cuda"; parts are copied to it one by one.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    search = PartitionedSearch(query, k, metric, memory_mb, torch.device(device))
    best = search.empty()
    for indices, features in parts:
        best = search.update(best, features, indices)
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
