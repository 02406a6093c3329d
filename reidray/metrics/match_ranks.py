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

from reidray.metrics.protocols import GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import DistanceBlocks, Floats
from reidray.retrieval.reranking import RerankedKeys

Flags = NDArray[np.bool_]

MOST_PAIRS = 1 << 20
COMPARED_AT_ONCE = 1 << 14
TOO_MANY_DOUBTFUL = 1 / 64  # of a row: from here on a float64 product costs less than the pairs


@dataclass
class Comparison:
    """One query's matches against everything else in its gallery.

    Attributes:
        query: its index.
        matches: (M,) gallery indices of the right answers.
        columns: (N,) gallery indices of the other images that may come before some match.
        keys: (N,) their fast keys.
        low: (M,) an image with a key below this comes before the match for certain.
        high: (M,) an image with a key from this on comes after it for certain.
        exact: the keys are exact; then no match is open.
        certain: (M,) how many come before it for certain.
        open: positions of the matches with some image between low and high.
        doubtful: positions of these images in `columns`.
        match_keys: exact keys of the open matches.
        doubtful_keys: exact keys of the doubtful images.
    """

    query: int
    matches: Integers
    columns: Integers
    keys: Floats
    low: Floats
    high: Floats
    exact: bool
    certain: Integers
    open: Integers
    doubtful: Integers
    match_keys: Floats
    doubtful_keys: Floats

    def ahead(self) -> Integers:
        """(M,) how many images other than matches come before each match, least first."""
        counts = self.certain.copy()
        if len(self.open):
            counts[self.open] += self._decided().sum(axis=1)
        counts.sort()
        return counts

    def before(self, images: int) -> Flags:
        """(M, images) which gallery images other than matches come before each match."""
        below = self.keys < self.low[:, None]
        if self.exact:
            below |= (self.keys == self.low[:, None]) & (self.columns < self.matches[:, None])
        if len(self.open):
            below[np.ix_(self.open, self.doubtful)] |= self._decided()
        flags = np.zeros((len(self.matches), images), np.bool_)
        flags[:, self.columns] = below
        return flags

    def _decided(self) -> Flags:
        """(open, doubtful) which images come before which match, not counting the certain."""
        keys, low, high = self.keys[self.doubtful], self.low[self.open], self.high[self.open]
        between = (keys >= low[:, None]) & (keys < high[:, None])
        first = self.doubtful_keys < self.match_keys[:, None]
        tied = self.doubtful_keys == self.match_keys[:, None]
        lower = self.columns[self.doubtful] < self.matches[self.open][:, None]
        decided: Flags = between & (first | (tied & lower))
        return decided


def comparisons(source: DistanceBlocks, truth: GroundTruth) -> Iterator[Comparison]:
    """A comparison for each query that has a match, in the queries' order, to be used at once."""
    dtype = torch.float32
    for queries in source.blocks():
        compared = list(compare_rows(queries, *source.keys(queries, dtype), truth))
        limit = TOO_MANY_DOUBTFUL * len(truth.gallery_ids)
        doubtful = {c.query: len(c.doubtful) for c in compared if len(c.doubtful) > limit}
        # The product has to read the whole gallery, so it must be worth that too.
        if dtype == torch.float32 and sum(doubtful.values()) > len(truth.gallery_ids):
            if len(doubtful) > len(compared) / 2:  # a gallery this dense is hard for all queries
                dtype = torch.float64
            compared = [c for c in compared if c.query not in doubtful]
            again = np.array(list(doubtful))
            compared += compare_rows(again, *source.keys(again, torch.float64), truth)
            compared.sort(key=lambda comparison: comparison.query)
        _decide(compared, source)
        yield from compared


def exact_comparisons(source: RerankedKeys, truth: GroundTruth) -> Iterator[Comparison]:
    """The same of distances that are what they are; the truth's gallery is the source's."""
    for queries in source.blocks():
        yield from compare_rows(queries, source.keys(queries), np.zeros(len(queries)), truth)


def compare_rows(
    queries: Integers, keys: Floats, margins: Floats, truth: GroundTruth
) -> Iterator[Comparison]:
    """Counts in rows of keys (B, G), which it overwrites; nothing is decided yet.

    Args:
        queries: (B,) their indices.
        keys: (B, G) float32 or float64, smaller is more alike.
        margins: (B,) how far a row's keys may be off; 0 where they are exact.
        truth: who is whose match.
    """
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
    reach = row.dtype.type(2 * margin)
    low, high = found - reach, np.nextafter(found + reach, np.inf)
    if reach:
        low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    columns = np.flatnonzero(np.less(row, high.max(), out=scratch))
    keys = row[columns]
    counts = _count_below(keys, np.concatenate([low, high]), scratch)
    certain, possible = counts[: len(matches)], counts[len(matches) :]
    unsure = np.flatnonzero(possible > certain)
    none, no_keys = np.empty(0, np.int64), np.empty(0)
    if not reach:
        for place in unsure:  # equal keys by index
            equal = columns[keys == low[place]]
            certain[place] += np.count_nonzero(equal < matches[place])
        unsure = none
    doubtful = none
    if len(unsure):
        between = (keys >= low[unsure, None]) & (keys < high[unsure, None])
        doubtful = np.flatnonzero(between.any(axis=0))
    return Comparison(
        query=query,
        matches=matches,
        columns=columns,
        keys=keys,
        low=low,
        high=high,
        exact=not reach,
        certain=certain,
        open=unsure,
        doubtful=doubtful,
        match_keys=no_keys,
        doubtful_keys=no_keys,
    )


def _count_below(keys: Floats, limits: Floats, scratch: Flags) -> Integers:
    """How many keys are below each limit."""
    counts = np.empty(len(limits), np.int64)
    rising = limits.argsort()
    # From the highest limit down, so that keys above most limits are soon dropped.
    while len(rising) * len(keys) > COMPARED_AT_ONCE:
        highest, rising = rising[-1], rising[:-1]
        below = np.less(keys, limits[highest], out=scratch[: len(keys)])
        counts[highest] = np.count_nonzero(below)
        if 2 * counts[highest] < len(keys):
            keys = keys[below]
    counts[rising] = (keys < limits[rising, None]).sum(axis=1)
    return counts


def _decide(compared: list[Comparison], source: DistanceBlocks) -> None:
    """Gives the exact keys to all comparisons in which something is doubtful."""
    waiting: list[Comparison] = []
    pairs = 0
    for comparison in compared:
        if len(comparison.open):
            waiting.append(comparison)
            pairs += len(comparison.open) + len(comparison.doubtful)
        if pairs > MOST_PAIRS:
            _give_exact_keys(waiting, source)
            waiting, pairs = [], 0
    if waiting:
        _give_exact_keys(waiting, source)


def _give_exact_keys(compared: list[Comparison], source: DistanceBlocks) -> None:
    images = [part for c in compared for part in (c.matches[c.open], c.columns[c.doubtful])]
    lengths = [len(c.open) + len(c.doubtful) for c in compared]
    queries = np.repeat([c.query for c in compared], lengths)
    keys = source.exact(queries, np.concatenate(images))
    ends = np.cumsum([len(part) for part in images])[:-1]
    parts = iter(np.split(keys, ends))
    for comparison, match_keys, doubtful_keys in zip(compared, parts, parts, strict=True):
        comparison.match_keys, comparison.doubtful_keys = match_keys, doubtful_keys
