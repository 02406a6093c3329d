"""The best gallery images of each query, exactly, without the whole distance matrix."""

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
    read_features,
)
from reidray.retrieval.distances import (
    DISTANCE_METRICS,
    Metric,
    Prepared,
    build_distance_metric,
)
from reidray.retrieval.numerics import full_precision, single_thread

GROUP = 64
MOST_ROWS = 1024
MOST_COLUMNS = 4096  # of a block that stays in a processor's cache
SPARE = 16
BYTES_PER_CANDIDATE = 96  # its place, its keys and their sorting


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
    """The k nearest gallery images of each query, best first.

    Exact: the order is that of float64 distances, and equal ones are ordered by the lower gallery
    index, so the result is the same for every block size, number of threads and machine.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: how many; more than G gives all G.
        metric: "euclidean", "cosine" or "l1".
        max_distance: images farther than this are left out: in their place stand an infinite
            distance and the index -1. `open_set` finds a good one.
        memory_mb: megabytes to work in, beyond inputs and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64, of the library and on
        the device of the inputs.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    queries, images, scale = read_features(query, gallery)
    how = build_distance_metric(metric, scale)
    with full_precision(queries.device):
        keys, indices = nearest(queries, images, min(k, len(images)), how, memory_mb)
        distances = how.distance(keys)
        if max_distance is not None:
            leave_out_farther(distances, indices, max_distance)
        distances = distances.float()
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


def leave_out_farther(distances: Tensor, indices: Tensor, max_distance: float) -> None:
    """Puts infinity and -1 in place of what is farther away, in distances and indices (Q, k)."""
    far = distances > max_distance
    distances[far] = torch.inf
    indices[far] = -1


def nearest(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: Metric,
    memory_mb: float,
    *,
    farthest: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Exact keys (Q, k) float64 and gallery indices (Q, k) int64 of the k nearest, k <= G.

    Where `farthest` (Q,) float32 is given, it is raised to each query's largest fast key, which is
    less its offset.
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
    query: Tensor, gallery: Tensor, k: int, metric: Metric, budget: int, farthest: Tensor | None
) -> tuple[Tensor, Tensor]:
    columns = min(len(gallery), MOST_COLUMNS, max(GROUP, budget // (8 * query.shape[1])))
    rows = min(len(query), MOST_ROWS, max(1, budget // (4 * columns)))
    buffer = torch.empty(rows * (columns + GROUP), dtype=torch.float32, device=query.device)
    blocks = [
        _BestOfBlock(query[top : top + rows], gallery, k, metric, buffer)
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


class _BestOfBlock:
    """What may be among the best k of the images visited so far, for a block of queries (B, D).

    A few more than k are kept by their fast keys, and exact keys decide between them in the end.
    Only where more than those few are too much alike, exact keys are needed on the way.
    """

    def __init__(
        self, query: Tensor, gallery: Tensor, k: int, metric: Metric, buffer: Tensor
    ) -> None:
        self._query = query
        self._gallery = gallery
        self._k = k
        self._metric = metric
        self._buffer = buffer
        self._offset = metric.offset(query)
        self._ready = metric.prepare(query, torch.float32)
        self._margin = torch.zeros_like(self._offset)
        # (B, k + SPARE), the least first; infinite where there is nothing yet.
        self._keys = torch.full((len(query), k + SPARE), torch.inf, device=query.device)
        self._indices = torch.full_like(self._keys, -1, dtype=torch.int64)

    def visit(self, prepared: Prepared, left: int, budget: int) -> Tensor:
        """Takes in the gallery images that stand at `left`, further on than all before.

        Returns:
            Their fast keys (B, N), until the next visit.
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
                self._take(found[0] + top, found[1], left, block)
        return block

    def best(self) -> tuple[Tensor, Tensor]:
        """Exact keys (B, k) float64, least first, and their gallery indices (B, k) int64."""
        rows = torch.arange(len(self._query), device=self._query.device)
        exact = self._exact(rows, self._keys, self._indices)
        place = self._best_places(exact, self._indices)
        return exact.gather(1, place), self._indices.gather(1, place)

    def _take(self, rows: Tensor, columns: Tensor, left: int, block: Tensor) -> None:
        """Puts pairs, ordered by row and column, among what is kept."""
        if len(rows) == 0:
            return
        touched, row, counts = torch.unique_consecutive(
            rows, return_inverse=True, return_counts=True
        )
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[row]
        new_keys = self._keys.new_full((len(touched), int(counts.max())), torch.inf)
        new_indices = torch.full_like(new_keys, -1, dtype=torch.int64)
        new_keys[row, place] = block[rows, columns]
        new_indices[row, place] = columns + left
        # A stable sort keeps equal keys in the gallery's order.
        keys, order = torch.cat([self._keys[touched], new_keys], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([self._indices[touched], new_indices], dim=1).gather(1, order)
        kept = self._k + SPARE
        dropped = keys[:, kept]
        crowded = dropped.isfinite() & (dropped <= self._possible(touched, keys))
        crowded &= self._margin[touched] > 0
        if crowded.any():
            settled = self._settled(touched[crowded], keys[crowded], indices[crowded])
            keys[crowded], indices[crowded] = settled
        self._keys[touched], self._indices[touched] = keys[:, :kept], indices[:, :kept]

    def _settled(self, rows: Tensor, keys: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Of the keys (R, N) and indices of some rows the k best, told by their exact keys."""
        place = self._best_places(self._exact(rows, keys, indices), indices)
        best, order = keys.gather(1, place).sort(dim=1)
        rest = keys.shape[1] - self._k
        settled = pad(best, (0, rest), value=torch.inf)
        return settled, pad(indices.gather(1, place).gather(1, order), (0, rest), value=-1)

    def _exact(self, rows: Tensor, keys: Tensor, indices: Tensor) -> Tensor:
        """(R, N) float64 exact keys; infinite where fast ones say not to be among the best."""
        exact = torch.full_like(keys, torch.inf, dtype=torch.float64)
        possible = (keys <= self._possible(rows, keys)[:, None]) & (indices >= 0)
        row, place = possible.nonzero(as_tuple=True)
        if self._margin.any():
            pairs = rows[row], indices[row, place]
            exact[row, place] = self._metric.exact(self._query, self._gallery, *pairs)
        else:
            exact[row, place] = keys[row, place].double() + self._offset[rows[row]]
        return exact

    def _best_places(self, exact: Tensor, indices: Tensor) -> Tensor:
        """(R, k) where the best are, equal ones by the lower index."""
        by_index = indices.argsort(dim=1)
        order = exact.gather(1, by_index).argsort(dim=1, stable=True)
        return by_index.gather(1, order[:, : self._k])

    def _possible(self, rows: Tensor, keys: Tensor) -> Tensor:
        """(R,) up to which of the sorted fast keys (R, N) an image may be among the best k."""
        return _above(keys[:, self._k - 1].double() + 2 * self._margin[rows])

    def _limit(self, block: Tensor) -> Tensor:
        """(B,) float32: an image with a fast key above this is not among the best k."""
        worst = self._keys[:, self._k - 1]
        nothing_known = self._k < block.shape[1] and bool(worst.isinf().any())
        if nothing_known:
            worst = block.kthvalue(self._k, dim=1).values
        # Where fast keys are exact, one that equals the worst of earlier blocks comes too late.
        below = worst if nothing_known else worst.nextafter(torch.full_like(worst, -torch.inf))
        possible = _above(worst.double() + 2 * self._margin)
        limit = torch.where(self._margin == 0, below, possible)
        return limit.clamp(max=torch.finfo(torch.float32).max)


def _above(limit: Tensor) -> Tensor:
    """The limits, rounded up to float32."""
    rounded = limit.float()
    return rounded.nextafter(torch.full_like(rounded, torch.inf))


def _at_most(groups: Tensor, promising: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns, in order, of the keys up to their row's limit.

    Args:
        groups: (B, N, GROUP) keys, the columns of a row in groups.
        promising: (B, N) the groups to look into.
        limit: (B,).
    """
    rows, group = promising.nonzero(as_tuple=True)
    hit, place = (groups[rows, group] <= limit[rows, None]).nonzero(as_tuple=True)
    return rows[hit], group[hit] * GROUP + place
