"""Compute Jaccard distances between the neighbourhoods of queries and of gallery images."""

from bisect import bisect_right

import torch
from torch import Tensor

from reidray.retrieval.neighbourhoods.weighted_neighbourhoods import Neighbourhoods

BYTES_PER_PAIR = 64
"""Memory for a pair of entries that share an image, and for their smaller weight."""
MAX_PAIRS_ON_CPU = 1 << 16
"""Pairs that stay in a CPU's cache."""
FIXED_POINT = 2.0**60
"""One, as an integer. A GPU adds in any order; the sums of integers do not depend on it."""


class JaccardDistances:
    """Compute the Jaccard distances of queries to the whole gallery.

    Args:
        found: Neighbourhoods of the queries, followed by those of the gallery.
        queries: Number of queries, Q.
        gallery: Number of gallery images, G.
        memory_mb: Working memory in megabytes, beyond neighbourhoods and result.
        fixed_point: Sum integers instead of float64, for a GPU: it adds in any order.
    """

    def __init__(
        self,
        found: Neighbourhoods,
        queries: int,
        gallery: int,
        memory_mb: float,
        *,
        fixed_point: bool,
    ) -> None:
        self._num_images = gallery
        self._fixed_point = fixed_point
        fitting = max(1, int(memory_mb * 2**20 / 4 / BYTES_PER_PAIR))
        self._pairs_at_once = min(fitting, MAX_PAIRS_ON_CPU) if found.rows.is_cpu else fitting
        index = torch.arange(queries + gallery + 1, device=found.rows.device)
        ends = torch.searchsorted(found.rows, index[: queries + 1])
        first = int(ends[-1])
        self._rows, self._images = found.rows[:first], found.images[:first]
        self._weights = found.weights[:first]
        # The entries of the gallery by the image in the neighbourhood.
        images, order = found.images[first:].sort(stable=True)
        self._owners = found.rows[first:][order] - queries
        self._owners_weights = found.weights[first:][order]
        bounds = torch.searchsorted(images, index)
        self._starts, counts = bounds[:-1], bounds.diff()
        self._counts = counts[self._images]
        pairs = torch.cat([self._counts.new_zeros(1), self._counts.cumsum(0)])[ends]
        # What the host needs in order to cut queries into parts, in one read.
        self._entry_ends, self._pair_ends = torch.stack([ends, pairs]).tolist()

    def of(self, queries: slice) -> Tensor:
        """Return the Jaccard distances (B, G) float64 of a range of B queries."""
        dtype = torch.int64 if self._fixed_point else torch.float64
        shape = queries.stop - queries.start, self._num_images
        overlap = torch.zeros(shape, dtype=dtype, device=self._rows.device)
        top = queries.start
        while top < queries.stop:
            fitting = bisect_right(self._pair_ends, self._pair_ends[top] + self._pairs_at_once) - 1
            bottom = min(max(fitting, top + 1), queries.stop)
            self._add(top, bottom, overlap[top - queries.start : bottom - queries.start])
            top = bottom
        shared = overlap.double() / FIXED_POINT if self._fixed_point else overlap
        return 1 - shared / (2 - shared)

    def _add(self, top: int, bottom: int, overlap: Tensor) -> None:
        """Add the overlaps of the queries from `top` to `bottom` to `overlap` (B, G)."""
        entries = slice(self._entry_ends[top], self._entry_ends[bottom])
        total = self._pair_ends[bottom] - self._pair_ends[top]
        counts = self._counts[entries]
        # The first pair of each entry, less the first owner of its image.
        shift = self._starts[self._images[entries]] - (counts.cumsum(0) - counts)
        index = torch.arange(len(counts), device=counts.device)
        entry = index.repeat_interleave(counts, output_size=total)
        owner = torch.arange(total, device=counts.device) + shift[entry]
        smaller = torch.minimum(self._weights[entries][entry], self._owners_weights[owner])
        if self._fixed_point:
            smaller = (smaller * FIXED_POINT).round().long()
        first = (self._rows[entries] - top) * self._num_images
        overlap.view(-1).index_add_(0, first[entry] + self._owners[owner], smaller)
