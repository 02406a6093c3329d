"""Compute the distances of queries to a whole gallery, block by block."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distances import DistanceMetric, FeatureBlock

Floats = NDArray[np.floating]

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
        self._query = query
        self._gallery = gallery
        self._metric = metric
        self._budget = memory_mb * 2**20 / 4
        self._kept: dict[int, FeatureBlock] = {}
        self._keys = torch.empty(0, len(gallery))

    def query_blocks(self) -> Iterator[Integers]:
        """Yield the indices of the queries whose keys fit in the working memory together."""
        fitting = int(2 * self._budget / (BYTES_PER_KEY * len(self._gallery)))
        rows = min(len(self._query), MAX_ROWS, max(1, fitting))
        for top in range(0, len(self._query), rows):
            yield np.arange(top, min(top + rows, len(self._query)))

    def keys(self, queries: Integers, dtype: torch.dtype) -> tuple[Floats, Floats]:
        """Return the fast keys of some queries, and the largest possible error of each row.

        On a CPU the next call overwrites float32 keys: copy those that are to be kept.

        Args:
            queries: (B,) indices.
            dtype: float32 or float64.

        Returns:
            Keys (B, G) of `dtype`, and errors (B,) float64.
        """
        device = self._query.device
        ready = self._metric.prepare(self._query[torch.from_numpy(queries).to(device)], dtype)
        keys = self._buffer(len(queries), dtype)
        margins = torch.zeros_like(ready.sizes)
        columns = self._columns()
        for left in range(0, len(self._gallery), columns):
            part = slice(left, left + columns)
            margin = self._metric.approximate(ready, self._prepare(part, dtype), keys[:, part])
            margins = torch.maximum(margins, margin)
        return keys.cpu().numpy(), margins.cpu().numpy()

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

    def exact(self, queries: Integers, columns: Integers) -> Floats:
        """Return the exact keys (N,) of N pairs of a query and a gallery index."""
        device = self._query.device
        pairs = torch.from_numpy(queries).to(device), torch.from_numpy(columns).to(device)
        return self._metric.exact(self._query, self._gallery, *pairs).cpu().numpy()

    def _columns(self) -> int:
        fitting = int(self._budget / (16 * self._gallery.shape[1]))
        return min(MAX_COLUMNS, max(1, fitting))
