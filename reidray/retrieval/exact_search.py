"""Find the nearest gallery images of each query exactly, without a whole distance matrix."""

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from reidray.retrieval.array_inputs import (
    Array,
    check_at_least,
    check_choice,
    check_count,
    check_distance,
    check_features,
)
from reidray.retrieval.distances import (
    DISTANCE_METRICS,
    DistanceMetric,
    FeatureBlock,
    build_distance_metric,
)
from reidray.retrieval.numerics import full_precision, single_thread

GROUP = 64
"""Adjacent keys whose minimum decides whether any of them is looked at."""
MAX_ROWS = 1024
MAX_COLUMNS = 4096
"""Width of a block that stays in a processor's cache."""
EXTRA_CANDIDATES = 16
"""Images beyond k that are kept by their fast keys until exact keys decide."""
BYTES_PER_CANDIDATE = 96
"""Memory for the position of a candidate, its keys and their sorting."""


@overload
def top_k(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
@overload
def top_k(
    query: Tensor,
    gallery: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[Tensor, Tensor]: ...
def top_k(
    query: Array,
    gallery: Array,
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[Array, Array]:
    """Return the k nearest gallery images of each query, nearest first.

    The search is exact: float64 distances decide the order, and the lower gallery index comes first
    where they are equal. Every block size, number of threads and machine gives the same result.

    >>> import numpy as np
    >>> query = np.array([[0.0, 0.0]], np.float32)
    >>> gallery = np.array([[3, 4], [0, 1], [1, 0]], np.float32)
    >>> distances, indices = top_k(query, gallery, k=3)
    >>> distances.tolist(), indices.tolist()  # 1 and 2 are equally near
    ([[1.0, 1.0, 5.0]], [[1, 2, 0]])
    >>> top_k(query, gallery, k=3, max_distance=2)[1].tolist()
    [[1, 2, -1]]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: Number of images; all G where it exceeds G.
        metric: "euclidean", "cosine" or "l1".
        max_distance: Largest distance of an image; infinity and the index -1 replace images beyond
            it. `reidray.metrics.evaluate_open_set` finds a suitable one.
        memory_mb: Working memory in megabytes, beyond inputs and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64, of the library and on
        the device of the inputs.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    queries, images, scale = check_features(query, gallery)
    chosen = build_distance_metric(metric, scale)
    with full_precision(queries.device):
        keys, indices = nearest(queries, images, min(k, len(images)), chosen, memory_mb)
        distances = chosen.distance(keys)
        if max_distance is not None:
            distances, indices = without_farther(distances, indices, max_distance)
        distances = distances.float()
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


def without_farther(
    distances: Tensor, indices: Tensor, max_distance: float
) -> tuple[Tensor, Tensor]:
    """Return distances and indices (Q, k) with infinity and -1 in place of those beyond."""
    far = distances > max_distance
    return distances.masked_fill(far, torch.inf), indices.masked_fill(far, -1)


def nearest(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    memory_mb: float,
    *,
    farthest: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the keys and indices of the k nearest gallery images, nearest first.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        k: Number of images, at most G.
        metric: Distance between features.
        memory_mb: Working memory in megabytes.
        farthest: (Q,) float32; raised to the largest fast key of each query, without its
            `DistanceMetric.offset`.

    Returns:
        Exact keys (Q, k) float64 and gallery indices (Q, k) int64.
    """
    budget = int(memory_mb * 2**20 / 4)
    at_once = max(1, budget // (4 * query.shape[1]))
    parts = []
    for top in range(0, len(query), at_once):
        rows = slice(top, top + at_once)
        largest = None if farthest is None else farthest[rows]
        parts.append(_nearest(query[rows], gallery, k, metric, budget, largest))
    keys, indices = zip(*parts, strict=True)
    return torch.cat(keys), torch.cat(indices)


def _nearest(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    budget: int,
    farthest: Tensor | None,
) -> tuple[Tensor, Tensor]:
    columns = min(len(gallery), MAX_COLUMNS, max(GROUP, budget // (8 * query.shape[1])))
    rows = min(len(query), MAX_ROWS, max(1, budget // (4 * columns)))
    buffer = torch.empty(rows * (columns + GROUP), dtype=torch.float32, device=query.device)
    blocks = [
        _BlockSearch(query[top : top + rows], gallery, k, metric, buffer)
        for top in range(0, len(query), rows)
    ]
    for left in range(0, len(gallery), columns):
        prepared = metric.prepare(gallery[left : left + columns], torch.float32)
        for number, block in enumerate(blocks):
            keys = block.visit(prepared, left, budget)
            if farthest is not None:
                largest = farthest[number * rows : (number + 1) * rows]
                torch.maximum(largest, keys.amax(dim=1), out=largest)
    best = [block.best() for block in blocks]
    return torch.cat([keys for keys, _ in best]), torch.cat([indices for _, indices in best])


class _BlockSearch:
    """Hold the candidates for the k nearest images of a block of queries (B, D).

    A few more candidates than k are kept by their fast keys, and exact keys decide between them in
    the end. Exact keys are computed on the way only where more candidates than these are too close
    to call.
    """

    def __init__(
        self, query: Tensor, gallery: Tensor, k: int, metric: DistanceMetric, buffer: Tensor
    ) -> None:
        self._query = query
        self._gallery = gallery
        self._k = k
        self._metric = metric
        self._buffer = buffer
        self._offset = metric.offset(query)
        self._ready = metric.prepare(query, torch.float32)
        self._margin = torch.zeros_like(self._offset)
        # (B, k + EXTRA_CANDIDATES), smallest first; infinite where there is no candidate yet.
        self._keys = torch.full((len(query), k + EXTRA_CANDIDATES), torch.inf, device=query.device)
        self._indices = torch.full_like(self._keys, -1, dtype=torch.int64)

    def visit(self, prepared: FeatureBlock, left: int, budget: int) -> Tensor:
        """Add the candidates among the next N gallery images.

        Args:
            prepared: Features of the images.
            left: Index of the first image, larger than all indices before.
            budget: Working memory in bytes.

        Returns:
            Fast keys (B, N) of the images, valid until the next call.
        """
        images = len(prepared.vectors)
        width = -(-images // GROUP) * GROUP
        padded = self._buffer[: len(self._query) * width].view(len(self._query), width)
        padded[:, images:] = torch.inf
        block = padded[:, :images]
        margin = self._metric.approximate(self._ready, prepared, block)
        self._margin = torch.maximum(self._margin, margin)
        limit = self._limit(block)
        groups = padded.view(len(padded), -1, GROUP)
        promising = groups.amin(dim=2) <= limit[:, None]
        with single_thread():
            widest = int(promising.sum(dim=1).max()) * GROUP
            rows = max(1, budget // (BYTES_PER_CANDIDATE * max(1, widest)))
            for top in range(0, len(padded), rows):
                part = slice(top, top + rows)
                found = _at_most(groups[part], promising[part], limit[part])
                self._insert(found[0] + top, found[1], left, block)
        return block

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the exact keys (B, k) float64, smallest first, and indices (B, k) int64."""
        rows = torch.arange(len(self._query), device=self._query.device)
        exact = self._exact(rows, self._keys, self._indices)
        position = self._best_positions(exact, self._indices)
        return exact.gather(1, position), self._indices.gather(1, position)

    def _insert(self, rows: Tensor, columns: Tensor, left: int, block: Tensor) -> None:
        """Insert pairs, which are ordered by row and column, into the candidates."""
        if len(rows) == 0:
            return
        touched, row, counts = torch.unique_consecutive(
            rows, return_inverse=True, return_counts=True
        )
        position = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[row]
        new_keys = self._keys.new_full((len(touched), int(counts.max())), torch.inf)
        new_indices = torch.full_like(new_keys, -1, dtype=torch.int64)
        new_keys[row, position] = block[rows, columns]
        new_indices[row, position] = columns + left
        # A stable sort keeps equal keys in the gallery's order.
        keys, order = torch.cat([self._keys[touched], new_keys], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([self._indices[touched], new_indices], dim=1).gather(1, order)
        kept = self._k + EXTRA_CANDIDATES
        dropped = keys[:, kept]
        crowded = dropped.isfinite() & (dropped <= self._possible(touched, keys))
        crowded &= self._margin[touched] > 0
        if crowded.any():
            best = self._k_best(touched[crowded], keys[crowded], indices[crowded])
            keys[crowded], indices[crowded] = best
        self._keys[touched], self._indices[touched] = keys[:, :kept], indices[:, :kept]

    def _k_best(self, rows: Tensor, keys: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k best by exact keys of keys (R, N) and indices; infinity and -1 follow."""
        position = self._best_positions(self._exact(rows, keys, indices), indices)
        best, order = keys.gather(1, position).sort(dim=1)
        rest = keys.shape[1] - self._k
        return pad(best, (0, rest), value=torch.inf), pad(
            indices.gather(1, position).gather(1, order), (0, rest), value=-1
        )

    def _exact(self, rows: Tensor, keys: Tensor, indices: Tensor) -> Tensor:
        """Return exact keys (R, N) float64, infinite where fast keys rule an image out."""
        exact = torch.full_like(keys, torch.inf, dtype=torch.float64)
        possible = (keys <= self._possible(rows, keys)[:, None]) & (indices >= 0)
        row, position = possible.nonzero(as_tuple=True)
        if self._margin.any():
            pairs = rows[row], indices[row, position]
            exact[row, position] = self._metric.exact(self._query, self._gallery, *pairs)
        else:
            exact[row, position] = keys[row, position].double() + self._offset[rows[row]]
        return exact

    def _best_positions(self, exact: Tensor, indices: Tensor) -> Tensor:
        """Return the positions (R, k) of the best keys; the lower index wins a tie."""
        by_index = indices.argsort(dim=1)
        order = exact.gather(1, by_index).argsort(dim=1, stable=True)
        return by_index.gather(1, order[:, : self._k])

    def _possible(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Return the largest fast key (R,) of an image that may be among the best k."""
        return _above(keys[:, self._k - 1].double() + 2 * self._margin[rows])

    def _limit(self, block: Tensor) -> Tensor:
        """Return limits (B,) float32; an image with a larger fast key is not among the best k."""
        worst = self._keys[:, self._k - 1]
        too_few = self._k < block.shape[1] and bool(worst.isinf().any())
        if too_few:
            worst = block.kthvalue(self._k, dim=1).values
        # If fast keys are exact, a key equal to the worst of earlier blocks loses the tie.
        below = worst if too_few else worst.nextafter(torch.full_like(worst, -torch.inf))
        possible = _above(worst.double() + 2 * self._margin)
        limit = torch.where(self._margin == 0, below, possible)
        return limit.clamp(max=torch.finfo(torch.float32).max)


def _above(limit: Tensor) -> Tensor:
    """Round limits up to float32."""
    rounded = limit.float()
    return rounded.nextafter(torch.full_like(rounded, torch.inf))


def _at_most(groups: Tensor, promising: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns, in order, of the keys that do not exceed the limit of their row.

    Args:
        groups: (B, N, GROUP) keys, the columns of each row in groups.
        promising: (B, N) bool, the groups to look into.
        limit: (B,) limits.
    """
    rows, group = promising.nonzero(as_tuple=True)
    hit, position = (groups[rows, group] <= limit[rows, None]).nonzero(as_tuple=True)
    return rows[hit], group[hit] * GROUP + position
