"""Compute the distances of queries to a whole gallery, block by block."""

from collections.abc import Iterator

import torch
from torch import Tensor

from reidray.retrieval.distances import DistanceMetric, FeatureBlock
from reidray.retrieval.numerics import COLUMNS, MIN_LENGTH_TO_SPLIT

MAX_ROWS = 1024
MAX_COLUMNS = 4096
BYTES_PER_KEY = 24
"""A float64 key, and the copy of a chosen key with its index."""


class DistanceBlocks:
    """Compute the keys of all pairs of a query and a gallery image, block by block.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        metric: Distance between features.
        memory_mb: Working memory in megabytes, beyond the features.
    """

    def __init__(
        self, query: Tensor, gallery: Tensor, metric: DistanceMetric, memory_mb: float
    ) -> None:
        self.device = query.device
        self._query = query
        self._gallery = gallery
        self._metric = metric
        self._budget = memory_mb * 2**20 / 4
        self._kept: dict[int, FeatureBlock] = {}
        self._keys = torch.empty(0, len(gallery))

    def query_blocks(self) -> Iterator[slice]:
        """Yield ranges of queries whose keys fit in the working memory together."""
        fitting = int(2 * self._budget / (BYTES_PER_KEY * len(self._gallery)))
        rows = min(len(self._query), MAX_ROWS, max(1, fitting))
        for top in range(0, len(self._query), rows):
            yield slice(top, min(top + rows, len(self._query)))

    def keys(self, queries: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the fast keys of a range of queries, and the largest possible error of each row.

        The next call overwrites float32 keys: copy those that are to be kept.

        Args:
            queries: Range of B queries.
            dtype: float32 or float64.

        Returns:
            Keys (B, G) of `dtype` and errors (B,) float64, on the device of the features.
        """
        ready = self._metric.prepare(self._query[queries], dtype)
        keys = self._buffer(len(ready.vectors), dtype)
        margins = torch.zeros_like(ready.sizes)
        columns = self._columns()
        for left in range(0, len(self._gallery), columns):
            part = slice(left, left + columns)
            margin = self._metric.approximate(ready, self._prepare(part, dtype), keys[:, part])
            margins = torch.maximum(margins, margin)
        return keys, margins

    def _buffer(self, queries: int, dtype: torch.dtype) -> Tensor:
        """Return a buffer for keys (queries, G), the same each time: fresh memory costs time."""
        images, device = len(self._gallery), self._query.device
        if dtype != torch.float32:
            return torch.empty(queries, images, dtype=dtype, device=device)
        if len(self._keys) < queries:
            self._keys = torch.empty(queries, images, device=device)
        return self._keys[:queries]

    def _prepare(self, part: slice, dtype: torch.dtype) -> FeatureBlock:
        """Prepare a block of the gallery, and keep it for the next queries if it is small."""
        if part.start in self._kept and dtype == torch.float32:
            return self._kept[part.start]
        gallery = self._gallery[part]
        prepared = self._metric.prepare(gallery, dtype)
        is_view = prepared.vectors.data_ptr() == gallery.data_ptr()
        if dtype == torch.float32 and (is_view or 4 * self._gallery.numel() <= self._budget):
            self._kept[part.start] = prepared
        return prepared

    def offset(self, queries: slice) -> Tensor:
        """Return the differences (B,) float64 between exact and fast keys of a range of queries."""
        return self._metric.offset(self._query[queries])

    def exact(self, queries: Tensor, columns: Tensor) -> Tensor:
        """Return the exact keys (N,) float64 of N pairs of a query and a gallery index."""
        return self._metric.exact(self._query, self._gallery, queries, columns)

    def _columns(self) -> int:
        values = self._gallery.shape[1]
        fitting = max(1, int(self._budget / (16 * values)))
        if not self._gallery.is_cpu:
            return fitting
        # A processor's cache holds a narrow block; long products divide a wide one themselves.
        return min(fitting, MAX_COLUMNS, COLUMNS if values < MIN_LENGTH_TO_SPLIT else MAX_COLUMNS)
