"""What judging gives: figures, and of a ranking how each query fared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RANKS = (1, 5, 10)
"""Where the cumulative match curve is quoted."""

NAMED_WITHOUT_MATCH = 10
"""Queries without a match that are named in a line; the table of the queries has all."""


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Who is on some images.

    Attributes:
        person_ids: (N,) int64.
        camera_ids: (N,) int64; None where not every one is known.
        names: N file names; None where they are not known.
    """

    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None

    def take(self, rows: NDArray[np.int64]) -> "ImageLabels":
        """The labels of some of the images.

        Args:
            rows: (M,) int64 indices.
        """
        return ImageLabels(
            self.person_ids[rows],
            None if self.camera_ids is None else self.camera_ids[rows],
            None if self.names is None else tuple(self.names[row] for row in rows),
        )


class QueryResult(NamedTuple):
    """How one query fared.

    Attributes:
        query: its file name, or its row, counted from 0.
        person: who is on it; None where unknown.
        camera: which one took it; None where unknown.
        average_precision: 0 to 1; None where the query does not count.
        first_match_rank: 1 is the best; None where no match is ranked.
        matches: gallery images that are right answers.
    """

    query: str
    person: int | None
    camera: int | None
    average_precision: float | None
    first_match_rank: int | None
    matches: int


@dataclass(frozen=True)
class EvaluationResult:
    """What judging gives.

    Attributes:
        metrics: by name.
        queries: of a judged ranking, in the order of the queries.
        curve: its cumulative match curve: the n-th value is the share of queries with a match
            among the best n; at most as long as the gallery.
        summary: its figures and rules in one line.
        person_ids: the numbers of people who have names.
        camera_ids: likewise of cameras.
    """

    metrics: dict[str, Any]
    queries: Sequence[QueryResult] = ()
    curve: Sequence[float] = ()
    summary: str = ""
    person_ids: Mapping[str, int] = field(default_factory=dict)
    camera_ids: Mapping[str, int] = field(default_factory=dict)


def unmatched_metrics(queries: Sequence[str]) -> dict[str, Any]:
    """Return how many queries have no match, and the names of the first of them."""
    return {
        "queries_without_match": len(queries),
        "without_match": list(queries[:NAMED_WITHOUT_MATCH]),
    }


def describe_unmatched(queries: Sequence[str]) -> list[str]:
    """Return a line on the queries without a match, where there are any."""
    if not queries:
        return []
    named = ", ".join(map(repr, queries[:NAMED_WITHOUT_MATCH]))
    more = ", ..." if len(queries) > NAMED_WITHOUT_MATCH else ""
    return [f"queries without a match: {len(queries)} ({named}{more})"]
