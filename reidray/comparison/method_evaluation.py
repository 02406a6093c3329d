"""Evaluate each method of a comparison: its ranking and its nearest-neighbour accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.comparison.comparison_data import ComparisonData, image_names
from reidray.comparison.methods import Method
from reidray.metrics import RankingMetrics, evaluate
from reidray.metrics.protocols import JUNK
from reidray.retrieval import knn_classify

TABLE_RANKS = range(1, 11)
NEIGHBOURS = (3, 10)
MAX_CURVE_LENGTH = 10_000
"""Number of ranks of a CMC curve; all ranks, where the gallery has no more images."""


@dataclass(frozen=True, eq=False)
class MethodMetrics:
    """Hold the metrics of a method.

    Attributes:
        method: the method.
        ranking: the metrics of the ranking.
        neighbour_accuracy: share of images whose person the k nearest neighbours, weighted by
            distance, predict correctly, by k.
        predicted: (N,) int64, the person whom the k nearest neighbours predict in each image, by k.
    """

    method: Method
    ranking: RankingMetrics
    neighbour_accuracy: dict[int, float]
    predicted: dict[int, NDArray[np.int64]]

    @property
    def name(self) -> str:
        """Return the name of the method."""
        return self.method.name

    @property
    def curve(self) -> list[float]:
        """Return the CMC curve over the ranks of the gallery, at most 10,000."""
        return [float(share) for share in self.ranking.cmc]

    def to_row(self) -> dict[str, Any]:
        """Return the row of the table, by the name of the column; None where a value is unknown."""
        method = self.method
        return {
            "method": method.name,
            "metric": method.metric,
            "embedding_length": method.query.shape[1],
            **{f"top{rank}": self.curve[min(rank, len(self.curve)) - 1] for rank in TABLE_RANKS},
            "mean_ap": self.ranking.mean_ap,
            **{f"nearest{k}_accuracy": share for k, share in self.neighbour_accuracy.items()},
            "training_seconds": _rounded(method.training_seconds),
            "inference_seconds": _rounded(method.inference_seconds),
        }


@dataclass(frozen=True, eq=False)
class PersonRanks:
    """Hold the metrics of each person for each of M methods.

    Attributes:
        person_ids: (P,) int64 ascending, the people with a query and a match in the gallery.
        query_counts: (P,) int64, the number of queries of each person.
        mean_rank: (M, P) float64, the rank of the first match, mean over the person's queries.
        top1: (M, P) float64, the share of the person's queries with a match at rank 1.
    """

    person_ids: NDArray[np.int64]
    query_counts: NDArray[np.int64]
    mean_rank: NDArray[np.float64]
    top1: NDArray[np.float64]

    def best_methods(self) -> NDArray[np.int64]:
        """Return the index of the method with the lowest mean rank of each person.

        Returns:
            (P,) int64, -1 where several methods share the lowest rank.
        """
        is_lowest = self.mean_rank == self.mean_rank.min(axis=0)
        return np.where(is_lowest.sum(axis=0) == 1, is_lowest.argmax(axis=0), -1)


def evaluate_method(method: Method, data: ComparisonData) -> MethodMetrics:
    """Compute the metrics of a method."""
    ranking = evaluate(
        method.query,
        method.gallery,
        data.query.person_ids,
        data.gallery.person_ids,
        data.query.camera_ids,
        data.gallery.camera_ids,
        metric=method.metric,
        protocol=data.protocol,
        max_rank=min(len(method.gallery), MAX_CURVE_LENGTH),
    )
    predicted = {k: _predict_people(method, data, k) for k in NEIGHBOURS}
    query_ids = data.sets[data.neighbour_sets.query].person_ids
    accuracy = {k: float((people == query_ids).mean()) for k, people in predicted.items()}
    return MethodMetrics(method, ranking, accuracy, predicted)


def choose_pair(metrics: Sequence[MethodMetrics]) -> tuple[int, int]:
    """Return the indices of two methods to compare: the best baseline and the best model by mAP.

    Without models, they are the two best baselines. The better of the two comes second.
    """
    by_mean_ap = sorted(range(len(metrics)), key=lambda index: metrics[index].ranking.mean_ap)
    best = by_mean_ap[-1]
    others = [index for index in by_mean_ap if index != best]
    kinds = {index: bool(metrics[index].method.model_id) for index in by_mean_ap}
    of_other_kind = [index for index in others if kinds[index] != kinds[best]]
    return (of_other_kind or others)[-1], best


def unmatched_queries(metrics: MethodMetrics, data: ComparisonData) -> list[str]:
    """Return the names of the queries without a match in the gallery."""
    names = image_names(data.query)
    return [names[index] for index in np.flatnonzero(metrics.ranking.first_match_rank == 0)]


def rank_people(metrics: Sequence[MethodMetrics], data: ComparisonData) -> PersonRanks:
    """Compute the metrics of each person for each of M methods."""
    first_ranks = np.stack([each.ranking.first_match_rank for each in metrics])
    has_match = first_ranks[0] > 0
    person_ids, person, query_counts = np.unique(
        data.query.person_ids[has_match], return_inverse=True, return_counts=True
    )

    def mean_per_person(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = [np.bincount(person, weights=row, minlength=len(person_ids)) for row in values]
        return np.stack(sums) / query_counts

    ranks = first_ranks[:, has_match]
    return PersonRanks(
        person_ids, query_counts, mean_per_person(ranks), mean_per_person(ranks == 1)
    )


def _predict_people(method: Method, data: ComparisonData, k: int) -> NDArray[np.int64]:
    """Return the person (N,) whom the k nearest neighbours predict in each image."""
    sets = data.neighbour_sets
    gallery_ids = data.sets[sets.gallery].person_ids
    is_known = gallery_ids != JUNK
    return knn_classify(
        method.embeddings[sets.query],
        method.embeddings[sets.gallery][is_known],
        gallery_ids[is_known],
        k=k,
        weights="distance",
        metric=method.metric,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
