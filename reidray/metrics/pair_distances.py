"""Compute exact distances to the query's person and to others, without a whole matrix.

Fast keys narrow the choice to the pairs that may count, and exact keys give their distances.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.metrics.protocols import JUNK, GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import DistanceMetric

Distances = NDArray[np.float64]
Floats = NDArray[np.floating]

MIN_PAIRS_BETWEEN_SELECTIONS = 1 << 20


@dataclass(frozen=True)
class _Row:
    """Hold the fast keys of one query.

    Attributes:
        query: Index of the query.
        matches: (M,) gallery indices of the matches.
        match_keys: (M,) keys of the matches.
        keys: (G,) all keys; infinite for junk images and images of the query's person.
        margin: Largest possible error of a key.
    """

    query: int
    matches: Integers
    match_keys: Floats
    keys: Floats
    margin: float


class PairDistances:
    """Compute distances of queries to the images of their persons and to those of others.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        truth: Labels of the images.
        metric: Distance between features.
        memory_mb: Working memory in megabytes, beyond the features.
    """

    def __init__(
        self,
        query: Tensor,
        gallery: Tensor,
        truth: GroundTruth,
        metric: DistanceMetric,
        memory_mb: float,
    ) -> None:
        self._source = DistanceBlocks(query, gallery, metric, memory_mb)
        self._truth = truth
        self._metric = metric
        self._offset = metric.offset(query).cpu().numpy()

    def count_impostors(self) -> int:
        """Return the number of pairs of different persons that the protocol shows."""
        truth = self._truth
        same = truth.stops - truth.starts
        if len(truth.junk):
            same = np.where(truth.query_ids == JUNK, 0, same)
        seen = len(truth.gallery_ids) - len(truth.junk)
        return int(seen * len(same) - same.sum())

    def nearest(self) -> tuple[Distances, Distances]:
        """Return the distances of queries to their nearest match (R,) and impostor (W,), if any."""
        genuine, impostor = [], []
        for rows in self._blocks():
            matches = [
                (row.query, row.matches[_nearest_candidates(row.match_keys, row.margin)])
                for row in rows
            ]
            others = [(row.query, _nearest_candidates(row.keys, row.margin)) for row in rows]
            genuine.append(self._nearest_of(matches))
            impostor.append(self._nearest_of(others))
        return np.concatenate(genuine), np.concatenate(impostor)

    def all_genuine_and_nearest_impostors(self, wanted: int) -> tuple[Distances, Distances]:
        """Return all distances (R,) to matches, and the `wanted` smallest ones to impostors."""
        genuine, nearest = [], _NearestPairs(wanted)
        for rows in self._blocks():
            queries = np.repeat([row.query for row in rows], [len(row.matches) for row in rows])
            genuine.append(self._distances(queries, np.concatenate([row.matches for row in rows])))
            for row in rows:
                nearest.add(row, self._offset[row.query])
        impostor = np.sort(self._distances(*nearest.pairs()))
        return np.concatenate(genuine), impostor[:wanted]

    def _blocks(self) -> Iterator[list[_Row]]:
        """Yield the rows of each block; the next block overwrites them."""
        for queries in self._source.query_blocks():
            keys, margins = self._source.keys(queries, torch.float32)
            rows = zip(
                range(queries.start, queries.stop),
                keys.cpu().numpy(),
                margins.tolist(),
                strict=True,
            )
            yield [self._row(query, row, margin) for query, row, margin in rows]

    def _row(self, query: int, keys: Floats, margin: float) -> _Row:
        matches = self._truth.matches(query)
        match_keys = keys[matches]
        keys[self._truth.junk] = np.inf
        keys[self._truth.same_person(query)] = np.inf
        return _Row(query, matches, match_keys, keys, margin)

    def _nearest_of(self, candidates: list[tuple[int, Integers]]) -> Distances:
        """Return the smallest distance of each query that has candidates."""
        found = [(query, columns) for query, columns in candidates if len(columns)]
        if not found:
            return np.empty(0)
        lengths = np.array([len(columns) for _, columns in found])
        queries = np.repeat([query for query, _ in found], lengths)
        distances = self._distances(queries, np.concatenate([columns for _, columns in found]))
        return np.asarray(np.minimum.reduceat(distances, lengths.cumsum() - lengths))

    def _distances(self, queries: Integers, columns: Integers) -> Distances:
        pairs = [
            torch.from_numpy(indices).to(self._source.device) for indices in (queries, columns)
        ]
        return np.asarray(self._metric.distance(self._source.exact(*pairs)).cpu().numpy())


class _NearestPairs:
    """Collect the pairs that may be among the `wanted` nearest."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._limit = np.inf
        self._margin = 0.0
        self._parts: list[tuple[Integers, Integers, Distances]] = []
        self._held = 0
        self._select_at = 2 * wanted + MIN_PAIRS_BETWEEN_SELECTIONS

    def add(self, row: _Row, offset: float) -> None:
        self._margin = max(self._margin, row.margin)
        limit = _above(self._limit - offset + row.margin)
        columns = np.flatnonzero((row.keys <= limit) & (row.keys < np.inf))
        keys = row.keys[columns].astype(np.float64) + offset
        self._parts.append((np.full(len(columns), row.query), columns, keys))
        self._held += len(columns)
        if self._held > self._select_at:
            self._select()

    def pairs(self) -> tuple[Integers, Integers]:
        """Return query and gallery indices (N,), N being the wanted number or a few more."""
        self._select()
        (queries, columns, _), *_ = self._parts
        return queries, columns

    def _select(self) -> None:
        queries, columns, keys = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if len(keys) > self._wanted:
            worst = np.partition(keys, self._wanted - 1)[self._wanted - 1]
            self._limit = worst + 2 * self._margin
            kept = keys <= self._limit
            queries, columns, keys = queries[kept], columns[kept], keys[kept]
        self._parts = [(queries, columns, keys)]
        self._held = len(keys)
        self._select_at = 2 * self._held + MIN_PAIRS_BETWEEN_SELECTIONS


def _nearest_candidates(keys: Floats, margin: float) -> Integers:
    """Return the columns that may hold the smallest finite key."""
    smallest = keys.min(initial=np.inf)
    if smallest == np.inf:
        return np.empty(0, np.int64)
    return np.flatnonzero(keys <= _above(float(smallest) + 2 * margin))


def _above(limit: float) -> np.float32:
    """Round a limit up to float32."""
    above: np.float32 = np.nextafter(np.float32(limit), np.float32(np.inf))
    return above
