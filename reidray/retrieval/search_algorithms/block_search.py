"""Find the k nearest images block by block, where the keys of a block stay in a CPU's cache.

The least key of a group of images tells whether any of them can be among the k nearest. Few groups
hold one after the first blocks, so most keys are read once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from reidray.retrieval.distances import DistanceMetric, FeatureBlock
from reidray.retrieval.search_algorithms.candidates import (
    EXTRA_CANDIDATES,
    best_positions,
    largest_possible,
)

GROUP = 32
"""Adjacent images whose least key decides whether any of them is looked at."""
MAX_ROWS = 1024
MAX_COLUMNS = 8192
"""Width of a block: the keys of MAX_ROWS queries take 32 MB, about a processor's last cache."""
MAX_COLUMNS_ON_DEVICE = 1 << 16
"""The same where the host waits for each block, so that there are few."""
BYTES_PER_CANDIDATE = 96
"""Memory for the position of a candidate, its keys and their sorting."""


def search_blocks(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    memory_mb: float,
    farthest: Tensor | None = None,
    limit: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the keys and indices of the k nearest gallery images (see `exact_search.nearest`)."""
    if limit is None:
        limit = torch.full_like(query[:, 0], torch.inf, dtype=torch.float64)
    budget = int(memory_mb * 2**20 / 4)
    at_once = max(1, budget // (4 * query.shape[1]))
    parts = []
    for top in range(0, len(query), at_once):
        rows = slice(top, top + at_once)
        largest = None if farthest is None else farthest[rows]
        parts.append(_search(query[rows], gallery, k, metric, budget, largest, limit[rows]))
    keys, indices = zip(*parts, strict=True)
    return torch.cat(keys), torch.cat(indices)


def _search(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    budget: int,
    farthest: Tensor | None,
    limit: Tensor,
) -> tuple[Tensor, Tensor]:
    widest = MAX_COLUMNS if query.is_cpu else MAX_COLUMNS_ON_DEVICE
    columns = min(len(gallery), widest, max(GROUP, budget // (8 * query.shape[1])))
    rows = min(len(query), MAX_ROWS, max(1, budget // (4 * columns)))
    buffer = torch.empty(rows * (columns + GROUP), dtype=torch.float32, device=query.device)
    blocks = [
        _BlockSearch(query[part], gallery, k, metric, buffer, budget, limit[part])
        for part in (slice(top, top + rows) for top in range(0, len(query), rows))
    ]
    for left in range(0, len(gallery), columns):
        prepared = metric.prepare(gallery[left : left + columns], torch.float32)
        for number, block in enumerate(blocks):
            keys = block.visit(prepared, left)
            if farthest is not None:
                largest = farthest[number * rows : (number + 1) * rows]
                torch.maximum(largest, keys.amax(dim=0), out=largest)
    best = [block.best() for block in blocks]
    return torch.cat([keys for keys, _ in best]), torch.cat([indices for _, indices in best])


@dataclass(frozen=True)
class _Pairs:
    """Hold P pairs of a query and an image that may be among its k nearest.

    Attributes:
        rows: (P,) int64 indices of the queries.
        indices: (P,) int64 gallery indices, ascending for each query.
        keys: (P,) float32 fast keys.
    """

    rows: Tensor
    indices: Tensor
    keys: Tensor


class _BlockSearch:
    """Hold the candidates for the k nearest images of a block of queries (B, D).

    Pairs are collected until there are enough to sort them. A few more candidates than k are kept
    by their fast keys, and exact keys decide between them in the end. Exact keys are computed on
    the way only where more candidates than these are too close to call.
    """

    def __init__(
        self,
        query: Tensor,
        gallery: Tensor,
        k: int,
        metric: DistanceMetric,
        buffer: Tensor,
        budget: int,
        limit: Tensor,
    ) -> None:
        self._query = query
        self._gallery = gallery
        self._k = k
        self._metric = metric
        self._buffer = buffer
        self._fitting = max(1, budget // BYTES_PER_CANDIDATE)
        self._offset = metric.offset(query)
        self._largest_wanted = limit - self._offset
        self._is_limited = limit.is_cpu and bool(limit.isfinite().all())
        self._ready = metric.prepare(query, torch.float32)
        self._margin = torch.zeros_like(self._offset)
        # (B, k + EXTRA_CANDIDATES), smallest first; infinite where there is no candidate yet.
        self._keys = torch.full((len(query), k + EXTRA_CANDIDATES), torch.inf, device=query.device)
        self._indices = torch.full_like(self._keys, -1, dtype=torch.int64)
        self._collected: list[_Pairs] = []
        self._images_sorted = 0

    def visit(self, prepared: FeatureBlock, left: int) -> Tensor:
        """Collect the pairs with the next N gallery images.

        Args:
            prepared: Features of the images.
            left: Index of the first image, larger than all indices before.

        Returns:
            Fast keys (N, B) of the images, valid until the next call.
        """
        images, queries = len(prepared.vectors), len(self._query)
        width = -(-images // GROUP) * GROUP
        # A row for each image: the product is faster than with a row for each query.
        padded = self._buffer[: width * queries].view(width, queries)
        padded[images:] = torch.inf
        block = padded[:images]
        margin = self._metric.approximate(self._ready, prepared, block.T)
        self._margin = torch.maximum(self._margin, margin)
        groups = padded.view(-1, GROUP, queries)
        least = groups.amin(dim=1)
        limit = self._limit(block, least)
        group, rows = (least <= limit).nonzero(as_tuple=True)
        step = max(1, self._fitting // GROUP)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            self._collect(groups, group[part], rows[part], limit, left)
        if self._images_sorted < self._k or self._num_collected() > queries * self._k // 2:
            self._sort()
            self._images_sorted = left + images
        return block

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the exact keys (B, k) float64, smallest first, and indices (B, k) int64.

        Infinity and -1 fill the rows where the limit leaves fewer.
        """
        self._sort()
        rows = torch.arange(len(self._query), device=self._query.device)
        exact = self._exact(rows, self._keys, self._indices)
        position = best_positions(exact, self._indices, self._k)
        return exact.gather(1, position), self._indices.gather(1, position)

    def _limit(self, block: Tensor, least: Tensor) -> Tensor:
        """Return limits (B,) float32; an image with a larger fast key is not to be found."""
        worst = self._keys[:, self._k - 1]
        is_known = self._images_sorted >= self._k
        if not is_known and not self._is_limited and self._k <= len(block):
            worst = _kth_or_more(block, least, self._k)
        # If fast keys are exact, a key equal to the worst of earlier blocks loses the tie.
        below = worst.nextafter(torch.full_like(worst, -torch.inf)) if is_known else worst
        possible = largest_possible(worst, self._margin)
        limit = torch.where(self._margin == 0, below, possible)
        # A fast key exceeds the exact key by the margin at most.
        wanted = (self._largest_wanted + self._margin).float()
        wanted = wanted.nextafter(torch.full_like(wanted, torch.inf))
        limit = torch.minimum(limit, wanted)
        return limit.clamp(max=torch.finfo(torch.float32).max)

    def _collect(
        self, groups: Tensor, group: Tensor, rows: Tensor, limit: Tensor, left: int
    ) -> None:
        """Collect the pairs whose key does not exceed the limit of their query.

        Args:
            groups: (N, GROUP, B) fast keys.
            group: (P,) the groups to look into, ascending.
            rows: (P,) the query to look for in each.
            limit: (B,) limits.
            left: Gallery index of the first image.
        """
        keys = groups.transpose(1, 2)[group, rows]
        hit, position = (keys <= limit[rows, None]).nonzero(as_tuple=True)
        indices = group[hit] * GROUP + position + left
        self._collected.append(_Pairs(rows[hit], indices, keys[hit, position]))
        if self._num_collected() > self._fitting:
            self._sort()

    def _num_collected(self) -> int:
        return sum(len(pairs.rows) for pairs in self._collected)

    def _sort(self) -> None:
        """Sort the collected pairs into the candidates."""
        if not self._num_collected():
            return
        # A stable sort keeps the images of a query in the gallery's order.
        rows, order = torch.cat([pairs.rows for pairs in self._collected]).sort(stable=True)
        indices = torch.cat([pairs.indices for pairs in self._collected])[order]
        keys = torch.cat([pairs.keys for pairs in self._collected])[order]
        self._collected = []
        counts = rows.bincount(minlength=len(self._query))
        ends = counts.cumsum(0)
        position = torch.arange(len(rows), device=rows.device) - (ends - counts)[rows]
        widest = int(counts.max())
        step = max(1, self._fitting // (widest + self._keys.shape[1]))
        starts = [0, *ends.tolist()]
        for top in range(0, len(self._query), step):
            bottom = min(top + step, len(self._query))
            part = slice(starts[top], starts[bottom])
            shape = bottom - top, widest
            new_keys = self._keys.new_full(shape, torch.inf)
            new_indices = self._indices.new_full(shape, -1)
            new_keys[rows[part] - top, position[part]] = keys[part]
            new_indices[rows[part] - top, position[part]] = indices[part]
            self._insert(top, new_keys, new_indices)

    def _insert(self, top: int, new_keys: Tensor, new_indices: Tensor) -> None:
        """Insert candidates (R, N), in the gallery's order, for R queries from `top` on."""
        part = slice(top, top + len(new_keys))
        rows = torch.arange(top, top + len(new_keys), device=new_keys.device)
        keys, order = torch.cat([self._keys[part], new_keys], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([self._indices[part], new_indices], dim=1).gather(1, order)
        kept = self._keys.shape[1]
        dropped = keys[:, kept]
        crowded = dropped.isfinite() & (dropped <= self._possible(rows, keys))
        crowded &= self._margin[part] > 0
        if crowded.any():
            best = self._k_best(rows[crowded], keys[crowded], indices[crowded])
            keys[crowded], indices[crowded] = best
        self._keys[part], self._indices[part] = keys[:, :kept], indices[:, :kept]

    def _k_best(self, rows: Tensor, keys: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k best by exact keys of keys (R, N) and indices; infinity and -1 follow."""
        exact = self._exact(rows, keys, indices)
        position = best_positions(exact, indices, self._k)
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

    def _possible(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Return the largest fast key (R,) of an image that may be among the best k."""
        return largest_possible(keys[:, self._k - 1], self._margin[rows])


def _kth_or_more(block: Tensor, least: Tensor, k: int) -> Tensor:
    """Return a bound (B,), not below the k-th smallest key of each query.

    Args:
        block: (N, B) keys.
        least: (L, B) keys of different images, and infinity.
        k: Number of keys, at most N.
    """
    whole = len(block) // GROUP
    keys = least[:whole] if k <= whole else block
    return keys.T.contiguous().kthvalue(k, dim=1).values
