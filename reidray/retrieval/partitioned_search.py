"""Search a gallery that comes in parts, and merge the results of the parts.

Keys are exact, so the result depends neither on the split into parts nor on their order. Parts come
as NumPy arrays and are searched on one device, where their results stay until the end.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from reidray.retrieval.exact_search import nearest, without_farther
from reidray.retrieval.numerics import full_precision

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Neighbours:
    """Hold the nearest images in a part of a gallery.

    Attributes:
        keys: (Q, N) float64 exact keys in the scale of the features, smallest first.
        indices: (Q, N) int64 indices of the images, ascending where keys are equal.
    """

    keys: Tensor
    indices: Tensor

    def shift(self, offset: int) -> "Neighbours":
        """Return the same images in a gallery that has `offset` more images before them."""
        return Neighbours(self.keys, self.indices + offset)

    def to_distances(
        self, metric: str, max_distance: float | None
    ) -> tuple[NDArray[np.float32], Integers]:
        """Return distances (Q, N) float32 and indices; infinity and -1 beyond `max_distance`."""
        distances = build_distance_metric(metric).distance(self.keys)
        indices = self.indices
        if max_distance is not None:
            distances, indices = without_farther(distances, indices, max_distance)
        return distances.float().cpu().numpy(), indices.cpu().numpy()


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
        none = torch.empty(len(self.query), 0, dtype=torch.float64, device=self.device)
        return Neighbours(none, none.long())

    def search_matrix(self, gallery: NDArray[np.generic]) -> Neighbours:
        """Return the nearest of some images (N, D) of any real dtype.

        Raises:
            InvalidRowError: A row holds a value that is not finite.
        """
        on_device = to_device(as_features("gallery", gallery), self.device)
        query, images, scale = check_features(self._query_on_device, on_device)
        metric, k = build_distance_metric(self.metric, scale), min(self.k, len(images))
        with full_precision(self.device):
            keys, indices = nearest(query, images.float(), k, metric, self.memory_mb / 2)
        return Neighbours(metric.unscaled(keys), indices)

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
        indices, order = torch.cat([part.indices for part in parts], dim=1).sort(dim=1)
        keys = torch.cat([part.keys for part in parts], dim=1).gather(1, order)
        # A stable sort keeps equal keys in the order of the indices.
        keys, order = keys.sort(dim=1, stable=True)
        return Neighbours(
            keys[:, : self.k].contiguous(), indices.gather(1, order[:, : self.k].contiguous())
        )

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
        if not len(indices):
            continue
        found = search.search_matrix(features)
        positions = to_device(torch.from_numpy(indices), search.device)
        best = search.merge([best, Neighbours(found.keys, positions[found.indices])])
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
