"""Count the images before all matches of a block of queries, with the keys left on their device.

The limits of a query's matches, in order, divide the axis of keys into bins. One search places each
key in its bin, and the sum over the bins below a limit is the number of images below it. Images in
a bin between the two limits of some match are open: exact keys order them among the matches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reidray.metrics.match_ranks import MAX_AMBIGUOUS_SHARE
from reidray.metrics.protocols import GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.reranking import RerankedDistances

OPEN_PAIRS_AT_ONCE = 1 << 21

ExactKeys = Callable[[Tensor, Tensor], Tensor]
"""Compute the exact keys (N,) float64 of N pairs of a row of the block and a gallery index."""


@dataclass(frozen=True)
class BlockCounts:
    """Hold the numbers of images before the matches of some queries.

    Attributes:
        queries: (R,) indices of the queries that have a match, ascending.
        matches: (R,) numbers of their matches, M_1 ... M_R.
        counts: (M_1 + ... + M_R,) numbers of images before each match, ascending in each query.
    """

    queries: Integers
    matches: Integers
    counts: Integers


@dataclass(frozen=True)
class _Matches:
    """Hold the matches of a block of B queries, and the images that its queries do not see.

    Attributes:
        lengths: (B,) numbers of matches, on the host.
        columns: (B, M) gallery indices of the matches; 0 beyond those of a query.
        valid: (B, M) bool, False beyond the matches of a query.
        hidden_rows: (H,) rows of the images of a query's own person.
        hidden_columns: (H,) gallery indices of these images.
        junk: (J,) gallery indices that no query sees.
    """

    lengths: Integers
    columns: Tensor
    valid: Tensor
    hidden_rows: Tensor
    hidden_columns: Tensor
    junk: Tensor


def count_before_matches(blocks: DistanceBlocks, truth: GroundTruth) -> Iterator[BlockCounts]:
    """Yield the numbers of images before the matches, in the order of the queries.

    The counts equal those of `rank_matches`. Only they, and their number, reach the host.
    """
    dtype = torch.float32
    for queries in blocks.query_blocks():
        matches = _matches(truth, queries, blocks.device)
        if not matches.lengths.any():
            continue

        block = _Block(*blocks.keys(queries, dtype), matches)
        if dtype == torch.float32 and block.open_share() > MAX_AMBIGUOUS_SHARE:
            dtype = torch.float64  # such a dense gallery is hard for all queries
            block = _Block(*blocks.keys(queries, dtype), matches)
        yield _on_host(block.counts(_exact_keys(blocks, queries)), matches, queries)


def count_before_reranked_matches(
    distances: RerankedDistances, truth: GroundTruth
) -> Iterator[BlockCounts]:
    """Yield the numbers of images before the matches under re-ranked distances, which are exact.

    The gallery of `truth` is that of `distances`.
    """
    for queries in distances.query_blocks():
        yield from count_before_exact_matches(distances.keys(queries), truth, queries)


def count_before_exact_matches(
    keys: Tensor, truth: GroundTruth, queries: slice
) -> Iterator[BlockCounts]:
    """Yield the numbers of images before the matches of one block, if it has any.

    Args:
        keys: (B, G) float32 or float64 keys without an error; they are overwritten.
        truth: Matches of each query.
        queries: Range of the B queries.
    """
    matches = _matches(truth, queries, keys.device)
    if matches.lengths.any():
        margins = keys.new_zeros(len(keys), dtype=torch.float64)
        yield _on_host(_Block(keys, margins, matches).counts(exact=None), matches, queries)


def _exact_keys(blocks: DistanceBlocks, queries: slice) -> ExactKeys:
    return lambda rows, columns: blocks.exact(rows + queries.start, columns)


def _matches(truth: GroundTruth, queries: slice, device: torch.device) -> _Matches:
    pairs = truth.person_pairs(queries)
    rows, columns = pairs.rows[pairs.is_match], pairs.columns[pairs.is_match]
    lengths = np.bincount(rows, minlength=queries.stop - queries.start)
    position = np.arange(len(rows)) - (lengths.cumsum() - lengths)[rows]
    padded = np.full((len(lengths), lengths.max()), -1)
    padded[rows, position] = columns
    on_device = torch.from_numpy(padded).to(device)
    return _Matches(
        lengths=lengths,
        columns=on_device.clamp(min=0),
        valid=on_device >= 0,
        hidden_rows=torch.from_numpy(pairs.rows).to(device),
        hidden_columns=torch.from_numpy(pairs.columns).to(device),
        junk=torch.from_numpy(truth.junk).to(device),
    )


def _on_host(counts: Tensor, matches: _Matches, queries: slice) -> BlockCounts:
    found = counts.cpu().numpy()
    has_match = np.flatnonzero(matches.lengths)
    return BlockCounts(
        queries=has_match + queries.start,
        matches=matches.lengths[has_match],
        counts=found[np.arange(found.shape[1]) < matches.lengths[:, None]],
    )


class _Block:
    """Place the keys of B queries between the limits of their matches.

    Args:
        keys: (B, G) float32 or float64; keys of hidden images are overwritten.
        margins: (B,) float64, largest possible error of each row; 0 where keys are exact.
        matches: Matches of the B queries, M at most.
    """

    def __init__(self, keys: Tensor, margins: Tensor, matches: _Matches) -> None:
        self._keys, self._margins, self._matches = keys, margins, matches
        self._found = keys.gather(1, matches.columns)
        keys.index_fill_(1, matches.junk, torch.inf)
        keys[matches.hidden_rows, matches.hidden_columns] = torch.inf
        limits, self._order = self._limits().sort(dim=1)
        self._bins = torch.searchsorted(limits, keys, right=True)
        one = torch.ones((), dtype=torch.int64, device=keys.device)
        self._sizes = one.new_zeros(len(keys), limits.shape[1] + 1)
        self._sizes.scatter_add_(1, self._bins, one.expand_as(self._bins))
        self._is_open = self._open_bins()
        open_pairs = (self._sizes * self._is_open).sum(dim=1)
        *self._open_pairs, inexact = torch.cat([open_pairs, margins.any().view(1)]).tolist()
        self._exact = not inexact

    def open_share(self) -> float:
        """Return the share of the pairs that only exact keys decide, 0 where all keys are exact."""
        return 0 if self._exact else sum(self._open_pairs) / self._keys.numel()

    def counts(self, exact: ExactKeys | None) -> Tensor:
        """Return the numbers of images before the matches, (B, M) int64, ascending in each row.

        Args:
            exact: Function that computes exact keys, unless the keys are exact.
        """
        certain, possible = self._below_limits(self._sizes)
        outside, _ = self._below_limits(self._sizes.masked_fill(self._is_open, 0))
        undecided = (possible > certain) & self._matches.valid
        counts = certain
        for rows in _row_ranges(self._open_pairs):
            row, position = undecided[rows].nonzero(as_tuple=True)
            row += rows.start
            before = self._open_before(rows, row, position, exact)
            counts[row, position] = outside[row, position] + before
        beyond = torch.iinfo(counts.dtype).max
        return counts.masked_fill(~self._matches.valid, beyond).sort(dim=1).values

    def _limits(self) -> Tensor:
        """Return the limits (B, 2 M) below and from which an image is certain, low ones first."""
        infinity = self._found.new_full((), torch.inf)
        reach = (2 * self._margins).to(self._found.dtype)[:, None]
        low, high = self._found - reach, (self._found + reach).nextafter(infinity)
        low = torch.where(reach > 0, low.nextafter(-infinity), low)
        high = torch.where(reach > 0, high.nextafter(infinity), high)
        valid = self._matches.valid.repeat(1, 2)
        return torch.cat([low, high], dim=1).masked_fill(~valid, torch.inf)

    def _open_bins(self) -> Tensor:
        """Return (B, 2 M + 1) bool, whether a bin lies between the two limits of some match."""
        matches = self._found.shape[1]
        step = torch.where(self._order < matches, 1, -1)
        step *= self._matches.valid.gather(1, self._order % matches)
        return torch.nn.functional.pad(step.cumsum(dim=1), (1, 0)) > 0

    def _below_limits(self, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return the sums of the bins below the low and the high limit of each match, (B, M)."""
        sums = sizes.cumsum(dim=1)[:, :-1]
        return torch.empty_like(sums).scatter_(1, self._order, sums).chunk(2, dim=1)

    def _open_before(
        self, rows: slice, match_rows: Tensor, positions: Tensor, exact: ExactKeys | None
    ) -> Tensor:
        """Return the number of open images before each undecided match (U,).

        Args:
            rows: Range of rows.
            match_rows: (U,) rows of its undecided matches, ascending.
            positions: (U,) positions of these matches in their rows.
            exact: Function that computes exact keys, unless the keys are exact.
        """
        open_rows, open_columns = (
            self._is_open[rows].gather(1, self._bins[rows]).nonzero(as_tuple=True)
        )
        open_rows += rows.start
        row = torch.cat([open_rows, match_rows])
        column = torch.cat([open_columns, self._matches.columns[match_rows, positions]])
        if self._exact or exact is None:
            found = self._found[match_rows, positions]
            keys = torch.cat([self._keys[open_rows, open_columns], found])
        else:
            keys = exact(row, column)
        order = column.argsort()  # the lower index comes first where exact keys are equal
        order = order[keys[order].argsort(stable=True)]
        order = order[row[order].argsort(stable=True)]
        first_match = len(open_rows)
        before = torch.empty_like(order).scatter_(0, order, (order < first_match).cumsum(dim=0))
        in_earlier_rows = torch.searchsorted(open_rows, match_rows)
        return before[first_match:] - in_earlier_rows


def _row_ranges(open_pairs: list[int]) -> Iterator[slice]:
    """Yield ranges of rows with few enough open pairs to sort together; none without any."""
    start = held = 0
    for row, pairs in enumerate(open_pairs):
        if held and held + pairs > OPEN_PAIRS_AT_ONCE:
            yield slice(start, row)
            start, held = row, 0
        held += pairs
    if held:
        yield slice(start, len(open_pairs))
