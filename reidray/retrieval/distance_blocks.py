"""How far every query is from the whole gallery, for as many queries at a time as memory allows."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distances import Metric, Prepared

Floats = NDArray[np.floating]

MOST_ROWS = 1024
MOST_COLUMNS = 4096
BYTES_PER_KEY = 24  # of float64, and picked out with its index


class DistanceBlocks:
    """The keys of all pairs of a query and a gallery, block by block."""

    def __init__(self, query: Tensor, gallery: Tensor, metric: Metric, memory_mb: float) -> None:
        self._query = query
        self._gallery = gallery
        self._metric = metric
        self._budget = memory_mb * 2**20 / 4
        self._kept: dict[int, Prepared] = {}
        self._keys = torch.empty(0, len(gallery))

    def blocks(self) -> Iterator[Integers]:
        """Indices of the queries whose keys fit the budget together."""
        fitting = int(2 * self._budget / (BYTES_PER_KEY * len(self._gallery)))
        rows = min(len(self._query), MOST_ROWS, max(1, fitting))
        for top in range(0, len(self._query), rows):
            yield np.arange(top, min(top + rows, len(self._query)))

    def keys(self, queries: Integers, dtype: torch.dtype) -> tuple[Floats, Floats]:
        """Keys (B, G) of these queries (B,), and how far (B,) each row may be off.

        On a CPU the float32 ones stand where the next will: what is to be kept must be copied.
        """
        device = self._query.device
        ready = self._metric.prepare(self._query[torch.from_numpy(queries).to(device)], dtype)
        keys = self._room(len(queries), dtype)
        margins = torch.zeros_like(ready.sizes)
        columns = self._columns()
        for left in range(0, len(self._gallery), columns):
            part = slice(left, left + columns)
            margin = self._metric.approximate(ready, self._prepare(part, dtype), keys[:, part])
            margins = torch.maximum(margins, margin)
        return keys.cpu().numpy(), margins.cpu().numpy()

    def _room(self, queries: int, dtype: torch.dtype) -> Tensor:
        """Where keys (queries, G) go; memory is taken once, as fresh pages cost time."""
        images, device = len(self._gallery), self._query.device
        if dtype != torch.float32:
            return torch.empty(queries, images, dtype=dtype, device=device)
        if len(self._keys) < queries:
            self._keys = torch.empty(queries, images, device=device)
        return self._keys[:queries]

    def _prepare(self, part: slice, dtype: torch.dtype) -> Prepared:
        """A block of the gallery; kept for the next queries where that takes little memory."""
        if part.start in self._kept and dtype == torch.float32:
            return self._kept[part.start]
        gallery = self._gallery[part]
        prepared = self._metric.prepare(gallery, dtype)
        same = prepared.vectors.data_ptr() == gallery.data_ptr()
        if dtype == torch.float32 and (same or 4 * self._gallery.numel() <= self._budget):
            self._kept[part.start] = prepared
        return prepared

    def exact(self, queries: Integers, columns: Integers) -> Floats:
        """Exact keys (N,) of N pairs of query and gallery indices."""
        device = self._query.device
        rows, places = torch.from_numpy(queries), torch.from_numpy(columns)
        pairs = rows.to(device), places.to(device)
        return self._metric.exact(self._query, self._gallery, *pairs).cpu().numpy()

    def _columns(self) -> int:
        fitting = int(self._budget / (16 * self._gallery.shape[1]))
        return min(MOST_COLUMNS, max(1, fitting))
