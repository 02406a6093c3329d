"""How good each method is: its ranking, and its naming of people by the nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.comparison.comparison_data import ComparedImages, image_names
from reidray.comparison.methods import Method
from reidray.metrics import RankingMetrics, evaluate
from reidray.metrics.protocols import JUNK
from reidray.retrieval import knn_classify

RANKS = range(1, 11)
NEIGHBOURS = (3, 10)
CURVE_LENGTH = 50


@dataclass(frozen=True, eq=False)
class Judged:
    """A method and how it fared.

    Attributes:
        ranking: of the gallery for the queries.
        neighbour_accuracy: by k, the share of images that the k nearest, their votes weighted by
            distance, name rightly.
    """

    method: Method
    ranking: RankingMetrics
    neighbour_accuracy: dict[int, float]

    @property
    def curve(self) -> list[float]:
        """The cumulative match curve, at most as long as the gallery."""
        gallery = len(self.method.embeddings[1])
        return [float(share) for share in self.ranking.cmc[:gallery]]

    def figures(self) -> dict[str, Any]:
        """By the name of the table's column; None where unknown."""
        method = self.method
        return {
            "method": method.name,
            "metric": method.metric,
            "embedding_length": method.embeddings[0].shape[1],
            **{f"top{rank}": self.curve[min(rank, len(self.curve)) - 1] for rank in RANKS},
            "mean_ap": self.ranking.mean_ap,
            **{f"nearest{k}_accuracy": share for k, share in self.neighbour_accuracy.items()},
            "training_seconds": _rounded(method.training_seconds),
            "inference_seconds": _rounded(method.inference_seconds),
        }


@dataclass(frozen=True, eq=False)
class PersonRanks:
    """How early each method finds each person.

    Attributes:
        people: (P,) int64 ascending, those who are asked about and are in the gallery.
        queries: (P,) int64, how many images ask about them.
        mean_rank: (M, P) float64, of the first match, mean over the person's queries.
        found_first: (M, P) float64, share of the person's queries with a match at rank 1.
    """

    people: NDArray[np.int64]
    queries: NDArray[np.int64]
    mean_rank: NDArray[np.float64]
    found_first: NDArray[np.float64]

    def winners(self) -> NDArray[np.int64]:
        """(P,) the one method with the lowest mean rank, -1 where several share it."""
        lowest = self.mean_rank == self.mean_rank.min(axis=0)
        return np.where(lowest.sum(axis=0) == 1, lowest.argmax(axis=0), -1)


def judge(method: Method, images: ComparedImages) -> Judged:
    """A method's figures on the compared images."""
    query, gallery = images.sets[:2]
    asking, held = method.embeddings[:2]
    ranking = evaluate(
        asking,
        held,
        query.person_ids,
        gallery.person_ids,
        query.camera_ids,
        gallery.camera_ids,
        metric=method.metric,
        protocol=images.protocol,
        max_rank=CURVE_LENGTH,
    )
    asked, known = images.sets[-2:]
    kept = known.person_ids != JUNK
    accuracy = {
        k: _share_named(method, asked.person_ids, known.person_ids, kept, k) for k in NEIGHBOURS
    }
    return Judged(method, ranking, accuracy)


def unmatched_queries(judged: Judged, images: ComparedImages) -> list[str]:
    """Return the names of the queries that no gallery image matches."""
    names = image_names(images.sets[0])
    return [names[row] for row in np.flatnonzero(judged.ranking.first_match_rank == 0)]


def person_ranks(judged: Sequence[Judged], images: ComparedImages) -> PersonRanks:
    """How early each of M methods finds each person who is asked about."""
    first = np.stack([method.ranking.first_match_rank for method in judged])
    counted = first[0] > 0
    people, place, queries = np.unique(
        images.sets[0].person_ids[counted], return_inverse=True, return_counts=True
    )

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = [np.bincount(place, weights=row, minlength=len(people)) for row in values]
        return np.stack(sums) / queries

    ranks = first[:, counted]
    return PersonRanks(people, queries, mean(ranks), mean(ranks == 1))


def _share_named(
    method: Method,
    asked: NDArray[np.int64],
    known: NDArray[np.int64],
    kept: NDArray[np.bool_],
    k: int,
) -> float:
    query, gallery = method.embeddings[-2:]
    named = knn_classify(
        query, gallery[kept], known[kept], k=k, weights="distance", metric=method.metric
    )
    return float((named == asked).mean())


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
