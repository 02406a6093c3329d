"""Exact distances to the query's own person and to others, without the whole matrix.

Fast keys narrow the choice to the pairs that may count; exact keys then give their distances.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.metrics.protocols import JUNK, GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import DistanceBlocks, Floats
from reidray.retrieval.distances import Metric

Distances = NDArray[np.float64]

FEWEST_BETWEEN_PICKS = 1 << 20


@dataclass(frozen=True)
class _Row:
    """One query's fast keys.

    Attributes:
        query: its index.
        matches: (M,) gallery indices of the right answers.
        match_keys: (M,) their keys.
        keys: (G,) all keys, infinite where the image is not somebody else's.
        margin: how far keys may be off.
    """

    query: int
    matches: Integers
    match_keys: Floats
    keys: Floats
    margin: float


class PairDistances:
    """Distances of queries to their own persons' images and to those of others."""

    def __init__(
        self, query: Tensor, gallery: Tensor, truth: GroundTruth, metric: Metric, memory_mb: float
    ) -> None:
        self._source = DistanceBlocks(query, gallery, metric, memory_mb)
        self._truth = truth
        self._metric = metric
        self._offset = metric.offset(query).cpu().numpy()

    def impostors(self) -> int:
        """How many pairs are of different persons and seen by the protocol."""
        truth = self._truth
        same = truth.stops - truth.starts
        if len(truth.junk):
            same = np.where(truth.query_ids == JUNK, 0, same)
        seen = len(truth.gallery_ids) - len(truth.junk)
        return int(seen * len(same) - same.sum())

    def nearest(self) -> tuple[Distances, Distances]:
        """Each query's least distance (R,) to a match and (W,) to somebody else, if it has any."""
        genuine, impostor = [], []
        for rows in self._blocks():
            matches = [(row.query, row.matches[_least(row.match_keys, row.margin)]) for row in rows]
            others = [(row.query, _least(row.keys, row.margin)) for row in rows]
            genuine.append(self._nearest_of(matches))
            impostor.append(self._nearest_of(others))
        return np.concatenate(genuine), np.concatenate(impostor)

    def all_genuine_and_least_impostors(self, wanted: int) -> tuple[Distances, Distances]:
        """All distances (R,) to matches, and the `wanted` least ones to somebody else."""
        genuine, least = [], _LeastPairs(wanted)
        for rows in self._blocks():
            queries = np.repeat([row.query for row in rows], [len(row.matches) for row in rows])
            genuine.append(self._distances(queries, np.concatenate([row.matches for row in rows])))
            for row in rows:
                least.add(row, self._offset[row.query])
        impostor = np.sort(self._distances(*least.pairs()))
        return np.concatenate(genuine), impostor[:wanted]

    def _blocks(self) -> Iterator[list[_Row]]:
        """The rows of a block, to be used before the next."""
        for queries in self._source.blocks():
            keys, margins = self._source.keys(queries, torch.float32)
            yield [
                self._row(query, row, margin)
                for query, row, margin in zip(queries.tolist(), keys, margins.tolist(), strict=True)
            ]

    def _row(self, query: int, keys: Floats, margin: float) -> _Row:
        matches = self._truth.matches(query)
        match_keys = keys[matches]
        keys[self._truth.junk] = np.inf
        keys[self._truth.same_person(query)] = np.inf
        return _Row(query, matches, match_keys, keys, margin)

    def _nearest_of(self, candidates: list[tuple[int, Integers]]) -> Distances:
        """The least distance of each query to its candidates, if it has any."""
        found = [(query, columns) for query, columns in candidates if len(columns)]
        if not found:
            return np.empty(0)
        lengths = np.array([len(columns) for _, columns in found])
        queries = np.repeat([query for query, _ in found], lengths)
        distances = self._distances(queries, np.concatenate([columns for _, columns in found]))
        return np.asarray(np.minimum.reduceat(distances, lengths.cumsum() - lengths))

    def _distances(self, queries: Integers, columns: Integers) -> Distances:
        keys = torch.from_numpy(self._source.exact(queries, columns))
        return np.asarray(self._metric.distance(keys).numpy())


class _LeastPairs:
    """The pairs that may be among the `wanted` least, picked out as they come."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._limit = np.inf
        self._margin = 0.0
        self._parts: list[tuple[Integers, Integers, Distances]] = []
        self._held = 0
        self._pick_at = 2 * wanted + FEWEST_BETWEEN_PICKS

    def add(self, row: _Row, offset: float) -> None:
        self._margin = max(self._margin, row.margin)
        limit = _above(self._limit - offset + row.margin)
        columns = np.flatnonzero((row.keys <= limit) & (row.keys < np.inf))
        keys = row.keys[columns].astype(np.float64) + offset
        self._parts.append((np.full(len(columns), row.query), columns, keys))
        self._held += len(columns)
        if self._held > self._pick_at:
            self._pick()

    def pairs(self) -> tuple[Integers, Integers]:
        """Queries and gallery indices (N,), N the wanted or a few more."""
        self._pick()
        (queries, columns, _), *_ = self._parts
        return queries, columns

    def _pick(self) -> None:
        queries, columns, keys = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if len(keys) > self._wanted:
            worst = np.partition(keys, self._wanted - 1)[self._wanted - 1]
            self._limit = worst + 2 * self._margin
            kept = keys <= self._limit
            queries, columns, keys = queries[kept], columns[kept], keys[kept]
        self._parts = [(queries, columns, keys)]
        self._held = len(keys)
        self._pick_at = 2 * self._held + FEWEST_BETWEEN_PICKS


def _least(keys: Floats, margin: float) -> Integers:
    """Where the least finite key may be."""
    least = keys.min(initial=np.inf)
    if least == np.inf:
        return np.empty(0, np.int64)
    return np.flatnonzero(keys <= _above(float(least) + 2 * margin))


def _above(limit: float) -> np.float32:
    """The limit, rounded up to float32."""
    above: np.float32 = np.nextafter(np.float32(limit), np.float32(np.inf))
    return above
