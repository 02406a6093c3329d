"""How good a ranking is: mean average precision, mINP and the cumulative match curve.

mAP and CMC are those of Zheng et al. (2015, "Scalable Person Re-identification: A Benchmark"),
mINP that of Ye et al. (2021, "Deep Learning for Person Re-identification: A Survey and Outlook").
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.metrics.match_ranks import (
    Comparison,
    comparisons,
    exact_comparisons,
)
from reidray.metrics.protocols import PROTOCOLS, build_ground_truth
from reidray.metrics.single_shot_galleries import SingleShotGalleries
from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    Labels,
    check_at_least,
    check_choice,
    check_count,
    read_features,
)
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.numerics import full_precision
from reidray.retrieval.reranking import RerankedKeys, Reranking

UNMATCHED_RULES = ("skip", "zero")
AP_RULES = ("standard", "trapezoid")


@dataclass(frozen=True, eq=False)
class RankingMetrics:
    """The figures of a ranking, and under which rules they were made.

    Attributes:
        mean_ap: mean average precision, 0 to 1.
        mean_inp: mean inverse negative penalty: matches over the rank of the last one.
        cmc: (max_rank,) float64; `cmc[n - 1]` is the share of queries with a match in the best n.
        num_valid_queries: queries that have a match.
        average_precision: (Q,) float64; of a query without a match NaN, or 0 where these count.
        first_match_rank: (Q,) int64, 1 is the best; 0 for a query without a match.
        protocol: what a query does not see.
        metric: the distance.
        ap_rule: "standard" or "trapezoid".
        unmatched: "skip" where queries without a match are left out, "zero" where they count as 0.
        reranking: how the ranking was re-ranked, if it was.
    """

    mean_ap: float
    mean_inp: float
    cmc: NDArray[np.float64]
    num_valid_queries: int
    average_precision: NDArray[np.float64]
    first_match_rank: Integers
    protocol: str
    metric: str
    ap_rule: str
    unmatched: str
    reranking: Reranking | None = None

    def __str__(self) -> str:
        """One line with figures and rules."""
        ranks = [rank for rank in (1, 5, 10) if rank <= len(self.cmc)]
        curve = ", ".join(f"rank-{rank} {self.cmc[rank - 1]:.4f}" for rank in ranks)
        without = len(self.average_precision) - self.num_valid_queries
        again = f" {self.reranking}" if self.reranking else ""
        fate = "left out" if self.unmatched == "skip" else "counted as zero"
        return (
            f"mAP {self.mean_ap:.4f}, mINP {self.mean_inp:.4f}, {curve} "
            f"({self.protocol}, {self.ap_rule} AP, {self.metric} distance{again}, "
            f"{self.num_valid_queries} queries used, {without} without a match {fate})"
        )


def evaluate(
    query: Array,
    gallery: Array,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    *,
    metric: str = "euclidean",
    protocol: str = "market1501",
    max_rank: int = 50,
    unmatched: str = "skip",
    ap_rule: str = "standard",
    rounds: int = 100,
    seed: int = 0,
    reranking: Reranking | None = None,
    memory_mb: float = 512,
) -> RankingMetrics:
    """How well the gallery's ranking for each query finds the query's person.

    Nothing is sorted and no whole distance matrix is held: the rank of a match is a count. Equal
    distances are ordered by the lower gallery index; the figures are the same for every block
    size, number of threads and machine.

    The protocols:

    - `market1501`: images of the query's person by the query's camera are left out, and so is
      person -1 (junk). Person 0 (distractors) stays, and is nobody's match.
    - `cuhk03`: as `market1501`, but CMC is the mean over `rounds` galleries of one random image
      per person. The other figures are of the whole gallery, as usual in the field.
    - `single_shot`: a gallery of one image per person; nothing is left out.
    - `all`: nothing is left out; ids are mere labels.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        query_ids: (Q,) whole numbers, the persons.
        gallery_ids: (G,) likewise.
        query_cameras: (Q,) whole numbers; market1501 and cuhk03 need them, the others ignore them.
        gallery_cameras: (G,) likewise.
        metric: "euclidean", "cosine" or "l1".
        protocol: "market1501", "cuhk03", "single_shot" or "all".
        max_rank: length of the curve; the gallery may be shorter.
        unmatched: what a query without a match is to the means: "skip" leaves it out, "zero"
            counts it as 0.
        ap_rule: "standard" is the mean of (i + 1) / (rank + 1) over the matches; "trapezoid" the
            older Oxford rule (Philbin et al. 2007), the mean of that precision and the one just
            before the match.
        rounds: random galleries of cuhk03.
        seed: of these galleries.
        reranking: judge the ranking that `rerank` gives, junk left out of it.
        memory_mb: megabytes to work in, beyond the inputs.

    Raises:
        ValueError: an argument is not as said here, or no query has a match; the message names it.
    """
    check_choice("protocol", protocol, PROTOCOLS)
    check_choice("unmatched", unmatched, UNMATCHED_RULES)
    check_choice("ap_rule", ap_rule, AP_RULES)
    check_count("max_rank", max_rank)
    check_count("rounds", rounds)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    queries, images, scale = read_features(query, gallery)
    how = build_distance_metric(metric, scale)
    shape = len(queries), len(images)
    truth = build_ground_truth(
        query_ids, gallery_ids, query_cameras, gallery_cameras, protocol, shape
    )
    if reranking is not None:
        truth, kept = truth.without_junk()
        images = images[torch.from_numpy(kept).to(images.device)]
    with full_precision(queries.device):
        draws = SingleShotGalleries(truth, rounds, seed) if protocol == "cuhk03" else None
        figures = _Figures(len(queries), max_rank)
        if reranking is None:
            compared = comparisons(DistanceBlocks(queries, images, how, memory_mb), truth)
        else:
            source = RerankedKeys(queries, images, how, reranking, memory_mb)
            compared = exact_comparisons(source, truth)
        for comparison in compared:
            figures.add(comparison, draws)
    return figures.summary(protocol, metric, ap_rule, unmatched, reranking)


class _Figures:
    """The ranks of all matches, gathered one comparison at a time."""

    def __init__(self, queries: int, max_rank: int) -> None:
        self._queries = queries
        self._compared: list[int] = []
        self._ahead: list[Integers] = []
        self._drawn_curve = np.zeros(max_rank)

    def add(self, comparison: Comparison, draws: SingleShotGalleries | None) -> None:
        self._compared.append(comparison.query)
        self._ahead.append(comparison.ahead())
        if draws is not None:
            ranks = draws.ranks(comparison)
            within = ranks[ranks < len(self._drawn_curve)]
            drawn = np.bincount(within, minlength=len(self._drawn_curve))
            self._drawn_curve += drawn / len(ranks)

    def summary(
        self,
        protocol: str,
        metric: str,
        ap_rule: str,
        unmatched: str,
        reranking: Reranking | None,
    ) -> RankingMetrics:
        matches = np.array([len(ahead) for ahead in self._ahead])
        starts = matches.cumsum() - matches
        position = np.arange(matches.sum()) - np.repeat(starts, matches)
        rank = np.concatenate(self._ahead) + position
        first, last = rank[starts], rank[starts + matches - 1]
        precision = np.add.reduceat(_precision(rank, position, ap_rule), starts) / matches
        without = 0.0 if unmatched == "zero" else np.nan
        average_precision = np.full(self._queries, without)
        average_precision[self._compared] = precision
        first_match_rank = np.zeros(self._queries, np.int64)
        first_match_rank[self._compared] = first + 1
        counted = self._queries if unmatched == "zero" else len(matches)
        curve = self._drawn_curve
        if protocol != "cuhk03":
            curve = np.bincount(first[first < len(curve)], minlength=len(curve)).astype(float)
        return RankingMetrics(
            mean_ap=float(precision.sum() / counted),
            mean_inp=float((matches / (last + 1)).sum() / counted),
            cmc=curve.cumsum() / counted,
            num_valid_queries=len(matches),
            average_precision=average_precision,
            first_match_rank=first_match_rank,
            protocol=protocol,
            metric=metric,
            ap_rule=ap_rule,
            unmatched=unmatched,
            reranking=reranking,
        )


def _precision(rank: Integers, position: Integers, ap_rule: str) -> NDArray[np.float64]:
    """At each match, from its rank and its position among its query's matches, both from 0."""
    precision = (position + 1) / (rank + 1)
    if ap_rule == "standard":
        return precision
    just_before = np.where(rank == 0, 1, position / np.maximum(rank, 1))
    return (precision + just_before) / 2
