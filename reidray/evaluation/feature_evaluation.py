"""Figures of features: how well those of a gallery answer those of the queries."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from reidray.config.scoring import EvaluateConfig
from reidray.evaluation.evaluation_result import (
    RANKS,
    EvaluationResult,
    QueryResult,
    describe_unmatched,
    unmatched_metrics,
)
from reidray.evaluation.feature_files import FeatureSets, ImageFeatures, read_features
from reidray.evaluation.image_labels import (
    ImageLabels,
    choose_protocol,
    errors_of,
    label_ground_truth,
)
from reidray.evaluation.name_matching import nothing_in_common
from reidray.metrics import RankingMetrics, evaluate, evaluate_open_set
from reidray.metrics.protocols import GroundTruth
from reidray.retrieval import Reranking
from reidray.scoring.gallery_distractors import evaluate_distractor_scores, score_distractors

log = logging.getLogger("reidray")


def evaluate_feature_files(config: EvaluateConfig) -> EvaluationResult:
    """The figures of a file of the queries' features against one of the gallery's.

    Args:
        config: with `query_features` and `gallery_features`.

    Raises:
        UserError: a file cannot be read, or the two do not fit each other or the rules.
    """
    files = [config.query_features or "", config.gallery_features or ""]
    found = read_features(*files)
    query, gallery = found.sets
    _check_some_person_in_common(found, files)
    judged = evaluate_features(
        query, gallery, config, metric=config.metric or "euclidean", source=" with ".join(files)
    )
    return replace(judged, person_ids=found.person_ids, camera_ids=found.camera_ids)


def _check_some_person_in_common(found: FeatureSets, files: Sequence[str]) -> None:
    names = {number: name for name, number in found.person_ids.items()}
    query, gallery = (
        {names.get(person, str(person)) for person in each.labels.person_ids.tolist()}
        for each in found.sets
    )
    if not query & gallery:
        raise nothing_in_common("person", files[0], query, files[1], gallery)


def evaluate_features(
    query: ImageFeatures,
    gallery: ImageFeatures,
    config: EvaluateConfig,
    *,
    metric: str,
    source: str,
) -> EvaluationResult:
    """The figures of features under the rules of a configuration.

    Args:
        query: features of Q images.
        gallery: features of G images.
        config: the rules.
        metric: distance between features.
        source: where the features come from, for the message of an error.

    Raises:
        UserError: they do not fit each other or the rules, or no query has a match.
    """
    protocol = config.protocol or choose_protocol(query.labels, gallery.labels)
    truth = label_ground_truth(query.labels, gallery.labels, protocol, source)
    people = query.labels.person_ids, gallery.labels.person_ids
    cameras = query.labels.camera_ids, gallery.labels.camera_ids
    with errors_of(source):
        images = query.embeddings, gallery.embeddings, *people, *cameras
        metrics = evaluate(
            *images,
            metric=metric,
            protocol=protocol,
            max_rank=config.max_rank,
            ap_rule=config.ap_rule or "standard",
            unmatched=config.unmatched or "skip",
            reranking=Reranking() if config.rerank else None,
        )
        figures = {**_figures(metrics), "gallery": len(gallery.embeddings)}
        if config.false_accept_rate is not None:
            rates = evaluate_open_set(*images, metric=metric, protocol=protocol)
            figures["open_set"] = asdict(rates.at(config.false_accept_rate))
        if config.distractor_scores:
            scores = score_distractors(
                query.embeddings, gallery.embeddings, gallery.uncertainty, metric
            )
            figures["distractor_scores"] = evaluate_distractor_scores(
                gallery.labels.person_ids, scores, source
            )
    queries = _query_figures(query.labels, truth, metrics)
    unmatched = [each.query for each in queries if not each.matches]
    for line in (*describe_unmatched(unmatched), str(metrics)):
        log.info("%s", line)
    curve = metrics.cmc[: len(gallery.embeddings)].tolist()
    return EvaluationResult(figures | unmatched_metrics(unmatched), queries, curve, str(metrics))


def _figures(metrics: RankingMetrics) -> dict[str, Any]:
    """Figures by name; of ranks only those that the curve reaches."""
    queries, used = len(metrics.average_precision), metrics.num_valid_queries
    return {
        "protocol": str(metrics),
        "metric": metrics.metric,
        "mean_ap": metrics.mean_ap,
        "mean_inp": metrics.mean_inp,
        **{
            f"rank{rank}": float(metrics.cmc[rank - 1])
            for rank in RANKS
            if rank <= len(metrics.cmc)
        },
        "queries": queries,
        "queries_used": used,
    }


def _query_figures(
    labels: ImageLabels, truth: GroundTruth, metrics: RankingMetrics
) -> tuple[QueryResult, ...]:
    return tuple(
        QueryResult(
            query=str(row) if labels.names is None else labels.names[row],
            person=int(labels.person_ids[row]),
            camera=None if labels.camera_ids is None else int(labels.camera_ids[row]),
            average_precision=None if np.isnan(precision) else float(precision),
            first_match_rank=int(metrics.first_match_rank[row]) or None,
            matches=len(truth.matches(row)),
        )
        for row, precision in enumerate(metrics.average_precision)
    )
