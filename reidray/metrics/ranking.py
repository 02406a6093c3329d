"""Compute mean average precision, mINP and the cumulative match curve of a ranking.

mAP and CMC are those of Zheng et al. (2015, "Scalable Person Re-identification: A Benchmark"),
mINP that of Ye et al. (2021, "Deep Learning for Person Re-identification: A Survey and Outlook").
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.metrics.block_counts import (
    BlockCounts,
    count_before_matches,
    count_before_reranked_matches,
)
from reidray.metrics.match_ranks import MatchRanks, rank_matches, rank_reranked_matches
from reidray.metrics.protocols import PROTOCOLS, build_ground_truth
from reidray.metrics.single_shot_galleries import SingleShotGalleries
from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    Labels,
    check_at_least,
    check_choice,
    check_count,
    check_features,
)
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.numerics import full_precision
from reidray.retrieval.reranking import RerankedDistances, Reranking

UNMATCHED_RULES = ("skip", "zero")
AP_RULES = ("standard", "trapezoid")


@dataclass(frozen=True, eq=False)
class RankingMetrics:
    """Hold the metrics of a ranking and the rules that they were computed by.

    Attributes:
        mean_ap: Mean average precision, 0 to 1.
        mean_inp: Mean inverse negative penalty, 0 to 1.
        cmc: (max_rank,) float64; `cmc[n - 1]` is the share of queries with a match in the best n.
        num_valid_queries: Number of queries that have a match.
        average_precision: (Q,) float64; for a query without a match NaN, or 0 where it counts as 0.
        first_match_rank: (Q,) int64, 1 is the best; 0 for a query without a match.
        protocol: Protocol, a value of `PROTOCOLS`.
        metric: Distance between features.
        ap_rule: "standard" or "trapezoid".
        unmatched: "skip" where queries without a match are skipped, "zero" where they count as 0.
        reranking: Parameters of the re-ranking, or None.
        top_k: Number of ranks that the average precision counts, or None for all.
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
    top_k: int | None = None

    def __str__(self) -> str:
        """Return one line with the metrics and the rules."""
        ranks = [rank for rank in (1, 5, 10) if rank <= len(self.cmc)]
        curve = ", ".join(f"rank-{rank} {self.cmc[rank - 1]:.4f}" for rank in ranks)
        without = len(self.average_precision) - self.num_valid_queries
        reranked = f" {self.reranking}" if self.reranking else ""
        unmatched = "left out" if self.unmatched == "skip" else "counted as zero"
        cutoff = "" if self.top_k is None else f"@{self.top_k}"
        return (
            f"mAP{cutoff} {self.mean_ap:.4f}, mINP {self.mean_inp:.4f}, {curve} "
            f"({self.protocol}, {self.ap_rule} AP, {self.metric} distance{reranked}, "
            f"{self.num_valid_queries} queries used, {without} without a match {unmatched})"
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
    top_k: int | None = None,
    rounds: int = 100,
    seed: int = 0,
    reranking: Reranking | None = None,
    memory_mb: float = 512,
) -> RankingMetrics:
    """Compute metrics of the ranking of the gallery for each query.

    For a query with M matches at the ranks r_1 < ... < r_M (from 1):

        AP      = 1 / M  sum_{i = 1..M}  i / r_i                                     (standard)
        AP      = 1 / M  sum_{i = 1..M}  (i / r_i + (i - 1) / (r_i - 1)) / 2         (trapezoid)
        AP@k    = 1 / M  sum_{i = 1..M, r_i <= k}  i / r_i                        (`top_k` = k)
        INP     = M / r_M
        CMC(n)  = 1 where r_1 <= n, else 0

    The trapezoid rule is the older Oxford rule (Philbin et al. 2007); its second term is 1 where
    r_i = 1. With `top_k` a match beyond the best k images adds nothing to the average precision; M
    is still the number of all matches. mAP, mINP and the curve are the means over all queries that
    have a match, or over all queries where `unmatched="zero"`.

    The protocols:

    - `market1501`: a query does not see images of its person by its own camera, nor junk images
      (person -1). Distractors (person 0) stay in the gallery and match no query.
    - `cuhk03`: as `market1501`, but CMC is the mean over `rounds` galleries with one random image
      of each person (Li et al. 2014, "DeepReID"). The other metrics use the whole gallery, as is
      usual in the field.
    - `single_shot`: the gallery has one image of each person; a query sees all of it.
    - `all`: a query sees all of the gallery; ids are plain labels, -1 and 0 too.

    With one camera only, `market1501` and `cuhk03` leave no query a match: use `all`. The rank of a
    match is the number of images before it, so nothing is sorted and no whole distance matrix
    exists. Where distances are equal, the lower gallery index comes first. The metrics are the same
    for every block size, number of threads and machine.

    >>> import numpy as np
    >>> query = np.array([[0.0]], np.float32)
    >>> gallery = np.array([[1], [2], [3], [4]], np.float32)  # the distances to the query
    >>> found = evaluate(query, gallery, [5], [7, 5, 8, 5], protocol="all")  # matches at 2 and 4
    >>> found.mean_ap, found.mean_inp, found.cmc[:3].tolist()
    (0.5, 0.5, [0.0, 1.0, 1.0])
    >>> evaluate(query, gallery, [5], [7, 5, 8, 5], protocol="all", ap_rule="trapezoid").mean_ap
    0.3333333333333333
    >>> evaluate(query, gallery, [5], [7, 5, 8, 5], protocol="all", top_k=3).mean_ap  # 1/2 of 1/2
    0.25
    >>> cameras = [1], [2, 1, 2, 2]  # the camera of the query took the second image
    >>> evaluate(query, gallery, [5], [7, 5, -1, 5], *cameras).first_match_rank.tolist()
    [2]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        query_ids: (Q,) whole numbers, the person of each query.
        gallery_ids: (G,) whole numbers, the person of each gallery image.
        query_cameras: (Q,) whole numbers; `market1501` and `cuhk03` need them, other protocols
            ignore them.
        gallery_cameras: (G,) whole numbers of the gallery images.
        metric: "euclidean", "cosine" or "l1".
        protocol: "market1501", "cuhk03", "single_shot" or "all".
        max_rank: Length of the curve; the gallery may be shorter.
        unmatched: "skip" leaves queries without a match out of the means, "zero" counts them as 0.
        ap_rule: "standard" or "trapezoid".
        top_k: Number of ranks that the average precision counts; None counts all.
        rounds: Number of random galleries of `cuhk03`.
        seed: Seed of these galleries.
        reranking: Parameters of a re-ranking to apply first, with junk images left out; see
            `reidray.retrieval.rerank`.
        memory_mb: Working memory in megabytes, beyond the inputs.

    Raises:
        ValueError: An argument is not as described, or no query has a match; the message names it.
    """
    check_choice("protocol", protocol, PROTOCOLS)
    check_choice("unmatched", unmatched, UNMATCHED_RULES)
    check_choice("ap_rule", ap_rule, AP_RULES)
    check_count("max_rank", max_rank)
    if top_k is not None:
        check_count("top_k", top_k)
    check_count("rounds", rounds)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    queries, images, scale = check_features(query, gallery)
    chosen = build_distance_metric(metric, scale)
    shape = len(queries), len(images)
    truth = build_ground_truth(
        query_ids, gallery_ids, query_cameras, gallery_cameras, protocol, shape
    )
    if reranking is not None:
        truth, kept = truth.without_junk()
        images = images[torch.from_numpy(kept).to(images.device)]
    with full_precision(queries.device):
        galleries = SingleShotGalleries(truth, rounds, seed) if protocol == "cuhk03" else None
        collected = _CollectedRanks(len(queries), max_rank)
        on_host = queries.is_cpu or galleries is not None
        if reranking is not None:
            distances = RerankedDistances(queries, images, chosen, reranking, memory_mb)
            if on_host:
                collected.add(rank_reranked_matches(distances, truth), galleries)
            else:
                collected.add_blocks(count_before_reranked_matches(distances, truth))
        else:
            blocks = DistanceBlocks(queries, images, chosen, memory_mb)
            if on_host:
                collected.add(rank_matches(blocks, truth), galleries)
            else:
                collected.add_blocks(count_before_matches(blocks, truth))
    return collected.metrics(protocol, metric, ap_rule, unmatched, reranking, top_k)


class _CollectedRanks:
    """Collect the ranks of all matches, query by query, and compute metrics from them."""

    def __init__(self, queries: int, max_rank: int) -> None:
        self._queries = queries
        self._ranked: list[int] = []
        self._matches: list[int] = []
        self._counts: list[Integers] = []
        self._drawn_curve = np.zeros(max_rank)

    def add(self, ranked: Iterable[MatchRanks], galleries: SingleShotGalleries | None) -> None:
        for ranks in ranked:
            self._ranked.append(ranks.query)
            self._matches.append(len(ranks.matches))
            self._counts.append(ranks.counts_before())
            if galleries is not None:
                drawn = galleries.ranks(ranks)
                within = drawn[drawn < len(self._drawn_curve)]
                counts = np.bincount(within, minlength=len(self._drawn_curve))
                self._drawn_curve += counts / len(drawn)

    def add_blocks(self, blocks: Iterable[BlockCounts]) -> None:
        for block in blocks:
            self._ranked += block.queries.tolist()
            self._matches += block.matches.tolist()
            self._counts.append(block.counts)

    def metrics(
        self,
        protocol: str,
        metric: str,
        ap_rule: str,
        unmatched: str,
        reranking: Reranking | None,
        top_k: int | None,
    ) -> RankingMetrics:
        matches = np.array(self._matches)
        starts = matches.cumsum() - matches
        position = np.arange(matches.sum()) - np.repeat(starts, matches)
        rank = np.concatenate(self._counts) + position
        first, last = rank[starts], rank[starts + matches - 1]
        precisions = _precision(rank, position, ap_rule)
        if top_k is not None:
            precisions = np.where(rank < top_k, precisions, 0)
        precision = np.add.reduceat(precisions, starts) / matches
        without = 0.0 if unmatched == "zero" else np.nan
        average_precision = np.full(self._queries, without)
        average_precision[self._ranked] = precision
        first_match_rank = np.zeros(self._queries, np.int64)
        first_match_rank[self._ranked] = first + 1
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
            top_k=top_k,
        )


def _precision(rank: Integers, position: Integers, ap_rule: str) -> NDArray[np.float64]:
    """Return the precision at each match.

    Args:
        rank: (N,) rank of the match, from 0.
        position: (N,) number of matches of its query before it.
        ap_rule: "standard" or "trapezoid".
    """
    precision = (position + 1) / (rank + 1)
    if ap_rule == "standard":
        return precision
    just_before = np.where(rank == 0, 1, position / np.maximum(rank, 1))
    return (precision + just_before) / 2
