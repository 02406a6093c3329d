"""The nearest images in parts of a gallery, and how they become those of the whole.

Keys are exact, so that neither the split into parts nor their order leaves a trace in the result.
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
    read_features,
)
from reidray.retrieval.arrow_features import to_matrix
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.exact_search import leave_out_farther, nearest
from reidray.retrieval.numerics import full_precision


@dataclass(frozen=True)
class Best:
    """The nearest images of what was seen of a gallery.

    Attributes:
        keys: (Q, N) float64, exact, in the features' own scale, least first.
        indices: (Q, N) int64, the images' places, rising where keys are equal.
    """

    keys: NDArray[np.float64]
    indices: Integers

    def moved(self, places: int) -> "Best":
        """The same images in a gallery that has so many more before them."""
        return Best(self.keys, self.indices + places)

    def within(
        self, metric: str, max_distance: float | None
    ) -> tuple[NDArray[np.float32], Integers]:
        """Distances (Q, N) float32 and indices; infinity and -1 for what is farther away."""
        distances = build_distance_metric(metric).distance(torch.from_numpy(self.keys))
        indices = torch.from_numpy(self.indices)
        if max_distance is not None:
            leave_out_farther(distances, indices, max_distance)
        return distances.float().numpy(), indices.numpy()


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        query: (Q, D) float32, all finite.
        k: how many of the nearest.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: megabytes to work in.
    """

    query: NDArray[np.float32]
    k: int
    metric: str
    memory_mb: float

    @property
    def rows_at_once(self) -> int:
        """How many images to rank together: of float32, an eighth of the memory."""
        return max(1, int(self.memory_mb * 2**20 / 32 / self.query.shape[1]))

    def nothing(self) -> Best:
        """What is found where nothing is."""
        none = np.empty((len(self.query), 0))
        return Best(none, none.astype(np.int64))

    def best_of(self, gallery: NDArray[np.generic]) -> Best:
        """The nearest of some images (N, D) of any real dtype.

        Raises:
            InvalidRowError: a row holds what is no finite number.
        """
        query, images, scale = read_features(self.query, gallery)
        metric, k = build_distance_metric(self.metric, scale), min(self.k, len(images))
        with full_precision(query.device):
            keys, indices = nearest(query, images.float(), k, metric, self.memory_mb / 2)
        return Best(metric.unscaled(keys).numpy(), indices.numpy())

    def best_of_arrays(self, arrays: Iterable[pa.Array]) -> tuple[Best, int]:
        """The nearest of all images in some arrays of lists, and how many images these are.

        Raises:
            ValueError: The arrays do not hold lists of D numbers.
            InvalidRowError: A row is wrong; rows are counted from the first array.
        """
        best, images = self.nothing(), 0
        for features in self._batches(arrays):
            with _counting_from(images):
                found = self.best_of(features)
            best = self.merge([best, found.moved(images)])
            images += len(features)
        return best, images

    def merge(self, parts: Sequence[Best]) -> Best:
        """The nearest of what was found in parts of a gallery, whatever the parts' order."""
        keys = np.concatenate([part.keys for part in parts], axis=1)
        indices = np.concatenate([part.indices for part in parts], axis=1)
        order = np.lexsort((indices, keys))[:, : self.k]
        return Best(
            np.take_along_axis(keys, order, axis=1), np.take_along_axis(indices, order, axis=1)
        )

    def _batches(self, arrays: Iterable[pa.Array]) -> Iterator[NDArray[np.generic]]:
        """Features (N, D) of `rows_at_once` images at most, without a copy where they lie so."""
        waiting: list[NDArray[np.generic]] = []
        seen = 0
        for array in filter(len, arrays):
            with _counting_from(seen):
                matrix = to_matrix(array, self.query.shape[1])
            seen += len(matrix)
            for start in range(0, len(matrix), self.rows_at_once):
                part = matrix[start : start + self.rows_at_once]
                if sum(map(len, waiting)) + len(part) > self.rows_at_once:
                    ready, waiting = _joined(waiting), []
                    yield ready
                waiting.append(part)
        if waiting:
            yield _joined(waiting)


def top_k_from_parts(
    query: NDArray[np.float32],
    parts: Iterable[tuple[Integers, NDArray[np.float32]]],
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], Integers]:
    """The k nearest gallery images of each query, best first, of a gallery that comes in parts.

    The result is that of `retrieval.top_k` over the whole gallery, bit by bit, whatever the parts.

    Args:
        query: (Q, D) float32.
        parts: of each the indices in the gallery, (N,) int64, which rise, and the features, (N, D)
            float32.
        k: how many; more than the gallery holds gives all of it.
        metric: "euclidean", "cosine" or "l1".
        max_distance: images farther than this are left out: in their place stand an infinite
            distance and the index -1.
        memory_mb: megabytes to work in, beyond query, part and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_count("k", k)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    search = Search(query, k, metric, memory_mb)
    best = search.nothing()
    for indices, features in parts:
        if not len(indices):
            continue
        found = search.best_of(features)
        best = search.merge([best, Best(found.keys, indices[found.indices])])
    return best.within(metric, max_distance)


def _joined(parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@contextmanager
def _counting_from(first: int) -> Iterator[None]:
    """Names a bad row by its place in the whole, of which the rows here begin at `first`."""
    try:
        yield
    except InvalidRowError as error:
        raise InvalidRowError(error.name, first + error.row, error.trouble) from None
