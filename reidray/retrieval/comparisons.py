"""Which gallery images come before a query's matches: counted, not sorted.

The rank of a match is the number of images that come before it. One pass over a row of fast keys
counts those that certainly do. The few too close to call within the margin of error are decided
by exact keys, equal ones by the lower gallery index.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.distances import Metric
from reidray.retrieval.inputs import Integers
from reidray.retrieval.protocols import Truth

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

MOST_ROWS = 512
MOST_COLUMNS = 4096
MOST_PAIRS = 1 << 20
TOO_MANY_DOUBTFUL = 1 / 32  # of a row: from here on a float64 product costs less than the pairs


class FeatureKeys:
    """The keys of all pairs of a query and a gallery, block by block."""

    def __init__(self, query: Tensor, gallery: Tensor, metric: Metric, memory_mb: float) -> None:
        self._query = query
        self._gallery = gallery
        self._metric = metric
        self._memory_mb = memory_mb

    def blocks(self) -> Iterator[tuple[Integers, Floats, Floats]]:
        """Query indices (B,), their float32 keys (B, G) and margins (B,) of error."""
        fitting = int(self._memory_mb * 2**20 / 4 / (4 * len(self._gallery)))
        rows = min(len(self._query), MOST_ROWS, max(1, fitting))
        for top in range(0, len(self._query), rows):
            queries = np.arange(top, min(top + rows, len(self._query)))
            yield queries, *self.keys(queries, torch.float32)

    def keys(self, queries: Integers, dtype: torch.dtype) -> tuple[Floats, Floats]:
        """Keys (B, G) of these queries (B,), and how far (B,) each row may be off."""
        ready = self._metric.prepare(self._query[torch.from_numpy(queries)], dtype)
        keys = torch.empty(len(queries), len(self._gallery), dtype=dtype, device=self._query.device)
        margins = torch.zeros_like(ready.sizes)
        columns = self._columns()
        for left in range(0, len(self._gallery), columns):
            part = slice(left, left + columns)
            gallery = self._metric.prepare(self._gallery[part], dtype)
            margin = self._metric.approximate(ready, gallery, keys[:, part])
            margins = torch.maximum(margins, margin)
        return keys.cpu().numpy(), margins.cpu().numpy()

    def exact(self, queries: Integers, columns: Integers) -> Floats:
        """Exact keys (N,) of N pairs of query and gallery indices."""
        device = self._query.device
        rows, places = torch.from_numpy(queries), torch.from_numpy(columns)
        pairs = rows.to(device), places.to(device)
        return self._metric.exact(self._query, self._gallery, *pairs).cpu().numpy()

    def _columns(self) -> int:
        fitting = int(self._memory_mb * 2**20 / 4 / (16 * self._gallery.shape[1]))
        return min(MOST_COLUMNS, max(1, fitting))


@dataclass
class Comparison:
    """One query's matches against everything else in its gallery.

    Attributes:
        query: its index.
        matches: (M,) gallery indices of the right answers.
        keys: (G,) fast keys; infinite at the matches and where the query does not see the image.
        low: (M,) an image with a key below this comes before the match for certain.
        high: (M,) an image with a key above this comes after it for certain.
        certain: (M,) how many come before it for certain.
        doubtful: (N,) gallery indices between low and high of some match.
        match_keys: (M,) exact keys of the matches, where anything is doubtful.
        doubtful_keys: (N,) exact keys of the doubtful.
    """

    query: int
    matches: Integers
    keys: Floats
    low: Floats
    high: Floats
    certain: Integers
    doubtful: Integers
    match_keys: Floats
    doubtful_keys: Floats

    def ahead(self) -> Integers:
        """(M,) how many images other than matches come before each match, least first."""
        counts = self.certain.copy()
        if len(self.doubtful):
            for position in range(len(counts)):
                counts[position] += self._decided(position).sum()
        counts.sort()
        return counts

    def before(self, position: int) -> Flags:
        """(G,) which images other than matches come before this match."""
        flags: Flags = self.keys < self.low[position]
        if self.low[position] == self.high[position]:  # exact keys: ties by index
            match = self.matches[position]
            np.less_equal(self.keys[:match], self.low[position], out=flags[:match])
        if len(self.doubtful):
            flags[self.doubtful[self._decided(position)]] = True
        return flags

    def _decided(self, position: int) -> Flags:
        """(N,) which of the doubtful come before this match, not counting the certain."""
        keys, exact = self.keys[self.doubtful], self.match_keys[position]
        between = (keys >= self.low[position]) & (keys <= self.high[position])
        tied = (self.doubtful_keys == exact) & (self.doubtful < self.matches[position])
        decided: Flags = between & ((self.doubtful_keys < exact) | tied)
        return decided


def comparisons(source: FeatureKeys, truth: Truth) -> Iterator[Comparison]:
    """A comparison for each query that has a match, in the queries' order, to be used at once."""
    for queries, keys, margins in source.blocks():
        compared = list(_compare_rows(queries, keys, margins, truth))
        limit = TOO_MANY_DOUBTFUL * keys.shape[1]
        hard = [c.query for c in compared if len(c.doubtful) > limit]
        sharper = {}
        if hard:
            rows = np.array(hard)
            again = _compare_rows(rows, *source.keys(rows, torch.float64), truth)
            sharper = {c.query: c for c in again}
        compared = [sharper.get(c.query, c) for c in compared]
        _decide(compared, source)
        yield from compared


def _compare_rows(
    queries: Integers, keys: Floats, margins: Floats, truth: Truth
) -> Iterator[Comparison]:
    keys[:, truth.junk] = np.inf
    scratch = np.empty(keys.shape[1], np.bool_)
    for query, row, margin in zip(queries.tolist(), keys, margins.tolist(), strict=True):
        matches = truth.matches(query)
        if len(matches):
            found = row[matches]
            row[truth.same_person(query)] = np.inf
            yield _compare(query, matches, found, row, margin, scratch)


def _compare(
    query: int, matches: Integers, found: Floats, row: Floats, margin: float, scratch: Flags
) -> Comparison:
    none = np.empty(0)
    if margin == 0:
        certain = _count_exact(row, found, matches, scratch)
        return Comparison(query, matches, row, found, found, certain, matches[:0], none, none)
    low = np.nextafter(found - row.dtype.type(2 * margin), -np.inf, dtype=row.dtype)
    high = np.nextafter(found + row.dtype.type(2 * margin), np.inf, dtype=row.dtype)
    certain = _count_below(row, low, scratch)
    between = np.flatnonzero(_count_below(row, np.nextafter(high, np.inf), scratch) - certain)
    doubtful = [np.flatnonzero((row >= low[p]) & (row <= high[p])) for p in between]
    columns = np.unique(np.concatenate(doubtful)) if doubtful else matches[:0]
    return Comparison(query, matches, row, low, high, certain, columns, none, none)


def _count_below(row: Floats, limits: Floats, scratch: Flags) -> Integers:
    counts = [np.count_nonzero(np.less(row, limit, out=scratch)) for limit in limits]
    return np.array(counts, np.int64)


def _count_exact(row: Floats, found: Floats, matches: Integers, scratch: Flags) -> Integers:
    """How many of exact keys come before each match: of equal ones those with a lower index."""
    counts = []
    for key, match in zip(found, matches.tolist(), strict=True):
        np.less_equal(row[:match], key, out=scratch[:match])
        np.less(row[match:], key, out=scratch[match:])
        counts.append(np.count_nonzero(scratch))
    return np.array(counts, np.int64)


def _decide(compared: list[Comparison], source: FeatureKeys) -> None:
    """Gives the exact keys to all comparisons in which something is doubtful."""
    waiting: list[Comparison] = []
    pairs = 0
    for comparison in compared:
        if len(comparison.doubtful):
            waiting.append(comparison)
            pairs += len(comparison.doubtful) + len(comparison.matches)
        if pairs > MOST_PAIRS:
            _give_exact_keys(waiting, source)
            waiting, pairs = [], 0
    if waiting:
        _give_exact_keys(waiting, source)


def _give_exact_keys(compared: list[Comparison], source: FeatureKeys) -> None:
    columns = [part for c in compared for part in (c.matches, c.doubtful)]
    lengths = [len(c.matches) + len(c.doubtful) for c in compared]
    queries = np.repeat([c.query for c in compared], lengths)
    keys = source.exact(queries, np.concatenate(columns))
    ends = np.cumsum([len(part) for part in columns])[:-1]
    parts = iter(np.split(keys, ends))
    for comparison, match_keys, doubtful_keys in zip(compared, parts, parts, strict=True):
        comparison.match_keys, comparison.doubtful_keys = match_keys, doubtful_keys
