"""The best gallery images of each query, exactly, without the whole distance matrix."""

import math
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.distances import (
    METRICS,
    Metric,
    Prepared,
    metric_named,
)
from reidray.retrieval.inputs import (
    Array,
    check_at_least,
    check_choice,
    check_count,
    read_features,
)
from reidray.retrieval.sums import full_precision, one_thread

GROUP = 64
MOST_ROWS = 1024
MOST_COLUMNS = 4096  # of a block that stays in a processor's cache
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
    check_choice("metric", metric, tuple(METRICS))
    if max_distance is not None:
        check_at_least("max_distance", max_distance, -math.inf)
    queries, images, scale = read_features(query, gallery)
    how = metric_named(metric, scale)
    with full_precision(queries.device):
        keys, indices = nearest(queries, images, min(k, len(images)), how, memory_mb)
        distances = how.distance(keys)
        if max_distance is not None:
            indices[distances > max_distance] = -1
            distances[distances > max_distance] = torch.inf
        distances = distances.float()
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


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
        _BestOfBlock(query[top : top + rows], k, metric, buffer, budget)
        for top in range(0, len(query), rows)
    ]
    for left in range(0, len(gallery), columns):
        images = gallery[left : left + columns]
        prepared = metric.prepare(images, torch.float32)
        for number, block in enumerate(blocks):
            keys = block.visit(images, prepared, left)
            if farthest is not None:
                largest = farthest[number * rows : (number + 1) * rows]
                torch.maximum(largest, keys.amax(dim=1), out=largest)
    return torch.cat([b.keys for b in blocks]), torch.cat([b.indices for b in blocks])


class _BestOfBlock:
    """The best k of what was visited so far, for a block of queries (B, D).

    Attributes:
        keys: (B, k) float64, exact, least first; infinite where there is nothing yet.
        indices: (B, k) int64 into the gallery.
    """

    def __init__(self, query: Tensor, k: int, metric: Metric, buffer: Tensor, budget: int) -> None:
        self._query = query
        self._metric = metric
        self._buffer = buffer
        self._budget = budget
        self._offset = metric.offset(query)
        self._ready = metric.prepare(query, torch.float32)
        self.keys = self._offset.new_full((len(query), k), torch.inf)
        self.indices = torch.full_like(self.keys, -1, dtype=torch.int64)

    def visit(self, gallery: Tensor, prepared: Prepared, left: int) -> Tensor:
        """Takes in the gallery images (N, D) that stand at `left`, further on than all before.

        Returns:
            Their fast keys (B, N), until the next visit.
        """
        width = -(-len(gallery) // GROUP) * GROUP
        padded = self._buffer[: len(self._query) * width].view(len(self._query), width)
        padded[:, len(gallery) :] = torch.inf
        block = padded[:, : len(gallery)]
        margin = self._metric.approximate(self._ready, prepared, block)
        limit = self._limit(block, margin)
        groups = padded.view(len(padded), -1, GROUP)
        promising = groups.amin(dim=2) <= limit[:, None]
        with one_thread():
            widest = int(promising.sum(dim=1).max()) * GROUP
            rows = max(1, self._budget // (BYTES_PER_CANDIDATE * max(1, widest)))
            for top in range(0, len(padded), rows):
                part = slice(top, top + rows)
                found = _at_most(groups[part], promising[part], limit[part])
                self._take(found[0] + top, found[1], gallery, left, block, margin)
        return block

    def _take(
        self,
        rows: Tensor,
        columns: Tensor,
        gallery: Tensor,
        left: int,
        block: Tensor,
        margin: Tensor,
    ) -> None:
        """Puts pairs, ordered by row and column, among the best."""
        if len(rows) == 0:
            return
        if margin.any():
            keys = self._metric.exact(self._query, gallery, rows, columns)
        else:
            keys = block[rows, columns].double() + self._offset[rows]
        touched, row, counts = torch.unique_consecutive(
            rows, return_inverse=True, return_counts=True
        )
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[row]
        new_keys = keys.new_full((len(touched), int(counts.max())), torch.inf)
        new_indices = torch.full_like(new_keys, -1, dtype=torch.int64)
        new_keys[row, place] = keys
        new_indices[row, place] = columns + left
        all_keys = torch.cat([self.keys[touched], new_keys], dim=1)
        all_indices = torch.cat([self.indices[touched], new_indices], dim=1)
        # A stable sort keeps equal keys in the gallery's order.
        order = all_keys.argsort(dim=1, stable=True)[:, : self.keys.shape[1]]
        self.keys[touched] = all_keys.gather(1, order)
        self.indices[touched] = all_indices.gather(1, order)

    def _limit(self, block: Tensor, margin: Tensor) -> Tensor:
        """(B,) float32: an image with a fast key above this is not among the best k."""
        k = self.keys.shape[1]
        worst = self.keys[:, -1] - self._offset
        nothing_known = k < block.shape[1] and bool(worst.isinf().any())
        if nothing_known:
            worst = block.kthvalue(k, dim=1).values + margin
        limit = (worst + margin).float()
        upwards = torch.full_like(limit, torch.inf)
        # Where fast keys are exact, one that equals the worst of earlier blocks comes too late.
        exact = limit if nothing_known else limit.nextafter(-upwards)
        limit = torch.where(margin == 0, exact, limit.nextafter(upwards))
        return limit.clamp(max=torch.finfo(torch.float32).max)


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
