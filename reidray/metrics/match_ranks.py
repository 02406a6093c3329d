"""Rank the matches of a query by counting, not sorting, the images that come before them.

The rank of a match is the number of images that come before it. One pass over a row of fast keys
counts the images that certainly do. Exact keys decide the few that are too close to call within the
margin of error; where exact keys are equal, the lower gallery index comes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.metrics.protocols import GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.reranking import RerankedDistances

Flags = NDArray[np.bool_]
Floats = NDArray[np.floating]

EXACT_PAIRS_AT_ONCE = 1 << 20
MIN_AMBIGUOUS_TO_NARROW = 64
"""Number of images from which on it costs less to narrow them down than to compute half of them."""
COMPARISONS_AT_ONCE = 1 << 14
MAX_AMBIGUOUS_SHARE = 1 / 64
"""Share of a row beyond which a float64 product costs less than exact keys pair by pair."""


@dataclass
class MatchRanks:
    """Hold the comparison of the matches of one query with the other images of its gallery.

    Attributes:
        query: Index of the query.
        matches: (M,) gallery indices of the matches.
        columns: (N,) gallery indices of the other images that may come before some match.
        keys: (N,) fast keys of these images.
        low: (M,) limits; an image with a smaller key certainly comes before the match.
        high: (M,) limits; an image with this key or a larger one certainly comes after the match.
        margin: Largest possible error of the keys; 0 where they are exact, and no match undecided.
        certain: (M,) numbers of images that certainly come before each match.
        undecided: Positions in `matches` of those with an image between `low` and `high`.
        ambiguous: Positions in `columns` of these images.
        undecided_keys: Exact keys of the undecided matches.
        ambiguous_keys: Exact keys of the ambiguous images.
    """

    query: int
    matches: Integers
    columns: Integers
    keys: Floats
    low: Floats
    high: Floats
    margin: float
    certain: Integers
    undecided: Integers
    ambiguous: Integers
    undecided_keys: Floats
    ambiguous_keys: Floats

    def narrow(self, offset: float) -> None:
        """Drop the ambiguous images that the exact keys of the undecided matches decide.

        Without an error of the match, the error of the image alone leaves it ambiguous.

        Args:
            offset: Difference between exact and fast keys.
        """
        fast_keys, dtype = self.undecided_keys - offset, self.keys.dtype
        low = np.nextafter((fast_keys - self.margin).astype(dtype), -np.inf)
        high = np.nextafter((fast_keys + self.margin).astype(dtype), np.inf)
        before = self.low[self.undecided], self.high[self.undecided]
        low, high = np.maximum(low, before[0]), np.minimum(high, before[1])
        keys = self.keys[self.ambiguous]
        passed = (keys >= before[0][:, None]) & (keys < low[:, None])
        self.certain[self.undecided] += passed.sum(axis=1)
        self.low[self.undecided], self.high[self.undecided] = low, high
        between = (keys >= low[:, None]) & (keys < high[:, None])
        self.ambiguous = self.ambiguous[between.any(axis=0)]

    def counts_before(self) -> Integers:
        """Return the number of other images before each match, (M,) ascending."""
        counts = self.certain.copy()
        if len(self.undecided):
            counts[self.undecided] += self._resolved().sum(axis=1)
        counts.sort()
        return counts

    def is_before(self, images: int) -> Flags:
        """Return (M, images) bool: which gallery images, except matches, come before each match."""
        below = self.keys < self.low[:, None]
        if self.margin == 0:
            below |= (self.keys == self.low[:, None]) & (self.columns < self.matches[:, None])
        if len(self.undecided):
            below[np.ix_(self.undecided, self.ambiguous)] |= self._resolved()
        flags = np.zeros((len(self.matches), images), np.bool_)
        flags[:, self.columns] = below
        return flags

    def _resolved(self) -> Flags:
        """Return (undecided, ambiguous) bool: which ambiguous images come before which match."""
        keys, low, high = (
            self.keys[self.ambiguous],
            self.low[self.undecided],
            self.high[self.undecided],
        )
        between = (keys >= low[:, None]) & (keys < high[:, None])
        first = self.ambiguous_keys < self.undecided_keys[:, None]
        tied = self.ambiguous_keys == self.undecided_keys[:, None]
        lower = self.columns[self.ambiguous] < self.matches[self.undecided][:, None]
        decided: Flags = between & (first | (tied & lower))
        return decided


def rank_matches(blocks: DistanceBlocks, truth: GroundTruth) -> Iterator[MatchRanks]:
    """Yield the match ranks of each query that has a match, in the order of the queries.

    Use each before the next is drawn: its arrays may be overwritten.
    """
    dtype = torch.float32
    for queries in blocks.query_blocks():
        ranked = _rank_block(blocks, queries, dtype, truth)
        limit = MAX_AMBIGUOUS_SHARE * len(truth.gallery_ids) * len(ranked)
        if dtype == torch.float32 and sum(len(each.ambiguous) for each in ranked) > limit:
            dtype = torch.float64  # such a dense gallery is hard for all queries
            ranked = _rank_block(blocks, queries, dtype, truth)
        _resolve([each for each in ranked if len(each.undecided)], blocks, queries)
        yield from ranked


def _rank_block(
    blocks: DistanceBlocks, queries: slice, dtype: torch.dtype, truth: GroundTruth
) -> list[MatchRanks]:
    keys, margins = blocks.keys(queries, dtype)
    return list(rank_rows(queries, keys.cpu().numpy(), margins.cpu().numpy(), truth))


def rank_reranked_matches(blocks: RerankedDistances, truth: GroundTruth) -> Iterator[MatchRanks]:
    """Yield the match ranks of each query under re-ranked distances, which are exact.

    The gallery of `truth` is that of `blocks`.
    """
    for queries in blocks.query_blocks():
        keys = blocks.keys(queries).cpu().numpy()
        yield from rank_rows(queries, keys, np.zeros(len(keys)), truth)


def rank_rows(
    queries: slice, keys: Floats, margins: Floats, truth: GroundTruth
) -> Iterator[MatchRanks]:
    """Yield match ranks from rows of keys, without exact keys, and overwrite the rows.

    Args:
        queries: Range of B queries.
        keys: (B, G) float32 or float64; smaller means more similar.
        margins: (B,) largest possible error of each row; 0 where keys are exact.
        truth: Matches of each query.
    """
    keys[:, truth.junk] = np.inf
    scratch = np.empty(keys.shape[1], np.bool_)
    indices = range(queries.start, queries.stop)
    for query, row, margin in zip(indices, keys, margins.tolist(), strict=True):
        matches = truth.matches(query)
        if len(matches):
            found = row[matches]
            row[truth.same_person(query)] = np.inf
            yield _rank_row(query, matches, found, row, margin, scratch)


def _rank_row(
    query: int, matches: Integers, found: Floats, row: Floats, margin: float, scratch: Flags
) -> MatchRanks:
    reach = row.dtype.type(2 * margin)
    low, high = found - reach, np.nextafter(found + reach, np.inf)
    if reach:
        low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    columns = np.flatnonzero(np.less(row, high.max(), out=scratch))
    keys = row[columns]
    counts = _count_below(keys, np.concatenate([low, high]), scratch)
    certain, possible = counts[: len(matches)], counts[len(matches) :]
    undecided = np.flatnonzero(possible > certain)
    none, no_keys = np.empty(0, np.int64), np.empty(0)
    if not reach:
        for match in undecided:  # the lower index comes first
            equal = columns[keys == low[match]]
            certain[match] += np.count_nonzero(equal < matches[match])
        undecided = none
    ambiguous = none
    if len(undecided):
        between = (keys >= low[undecided, None]) & (keys < high[undecided, None])
        ambiguous = np.flatnonzero(between.any(axis=0))
    return MatchRanks(
        query=query,
        matches=matches,
        columns=columns,
        keys=keys,
        low=low,
        high=high,
        margin=margin,
        certain=certain,
        undecided=undecided,
        ambiguous=ambiguous,
        undecided_keys=no_keys,
        ambiguous_keys=no_keys,
    )


def _count_below(keys: Floats, limits: Floats, scratch: Flags) -> Integers:
    """Return the number of keys below each limit."""
    counts = np.empty(len(limits), np.int64)
    rising = limits.argsort()
    # Start from the highest limit, so that keys above most limits are dropped early.
    while len(rising) * len(keys) > COMPARISONS_AT_ONCE:
        highest, rising = rising[-1], rising[:-1]
        below = np.less(keys, limits[highest], out=scratch[: len(keys)])
        counts[highest] = np.count_nonzero(below)
        if 2 * counts[highest] < len(keys):
            keys = keys[below]
    counts[rising] = (keys < limits[rising, None]).sum(axis=1)
    return counts


def _resolve(ranked: list[MatchRanks], blocks: DistanceBlocks, queries: slice) -> None:
    """Compute the exact keys of all undecided matches, and then those of ambiguous images."""
    if not ranked:
        return
    offset = blocks.offset(queries).cpu().numpy()
    undecided = _exact_keys(blocks, ranked, [each.matches[each.undecided] for each in ranked])
    for ranks, keys in zip(ranked, undecided, strict=True):
        ranks.undecided_keys = keys
        if len(ranks.ambiguous) >= MIN_AMBIGUOUS_TO_NARROW:
            ranks.narrow(offset[ranks.query - queries.start])
    for group in _groups(ranked):
        ambiguous = _exact_keys(blocks, group, [each.columns[each.ambiguous] for each in group])
        for ranks, keys in zip(group, ambiguous, strict=True):
            ranks.ambiguous_keys = keys


def _groups(ranked: list[MatchRanks]) -> Iterator[list[MatchRanks]]:
    """Divide queries into groups with few enough ambiguous images to compute together."""
    group: list[MatchRanks] = []
    pairs = 0
    for ranks in ranked:
        group.append(ranks)
        pairs += len(ranks.ambiguous)
        if pairs > EXACT_PAIRS_AT_ONCE:
            yield group
            group, pairs = [], 0
    if pairs:
        yield group


def _exact_keys(
    blocks: DistanceBlocks, ranked: list[MatchRanks], images: list[Integers]
) -> list[Floats]:
    """Return the exact keys of the images of each query."""
    lengths = [len(each) for each in images]
    queries, columns = np.repeat([each.query for each in ranked], lengths), np.concatenate(images)
    pairs = [torch.from_numpy(indices).to(blocks.device) for indices in (queries, columns)]
    return np.split(blocks.exact(*pairs).cpu().numpy(), np.cumsum(lengths)[:-1])
