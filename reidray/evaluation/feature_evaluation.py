"""Evaluate the features of queries against the features of a gallery."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as papq

from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.evaluation_result import (
    RANKS,
    EvaluationResult,
    QueryResult,
    describe_unmatched,
    unmatched_metrics,
)
from reidray.evaluation.feature_files import FeatureFiles, ImageFeatures, read_features
from reidray.evaluation.image_labels import (
    ImageLabels,
    choose_protocol,
    label_ground_truth,
    user_errors_about,
)
from reidray.evaluation.name_matching import no_common_name_error
from reidray.metrics import RankingMetrics, evaluate, evaluate_open_set
from reidray.metrics.protocols import GroundTruth
from reidray.retrieval import Reranking
from reidray.scoring.gallery_distractors import evaluate_distractor_scores, score_distractors

log = logging.getLogger("reidray")


def evaluate_feature_files(config: EvaluateConfig) -> EvaluationResult:
    """Evaluate a file of the queries' features against a file of the gallery's.

    Args:
        config: evaluation with `query_features` and `gallery_features`.

    Raises:
        UserError: a file cannot be read, the two do not fit each other or the protocol, or they
            hold embeddings of two models.
    """
    query_file, gallery_file = config.query_features or "", config.gallery_features or ""
    features = read_features(query_file, gallery_file)
    _check_common_person(features, query_file, gallery_file)
    result = evaluate_features(
        features.query,
        features.gallery,
        config,
        metric=config.metric or _written_metric(query_file, gallery_file) or "euclidean",
        source=f"{query_file} with {gallery_file}",
    )
    return replace(result, person_ids=features.person_ids, camera_ids=features.camera_ids)


def _written_metric(query_file: str, gallery_file: str) -> str | None:
    """Return the metric that `embed.py` wrote into two files; None where it wrote none into both.

    Raises:
        UserError: the files name two models, whatever their precision and flip.
    """
    query, gallery = (_read_metadata(file) for file in (query_file, gallery_file))
    models = [each.get("model", "").partition("-")[0] for each in (query, gallery)]
    if all(models) and models[0] != models[1]:
        raise UserError(
            f"{query_file} holds embeddings of the model {models[0]}, and {gallery_file} those of "
            f"{models[1]}: embed both with one model"
        )
    metric = query.get("metric")
    return metric if metric == gallery.get("metric") else None


def _read_metadata(file: str) -> dict[str, str]:
    """Return the metadata that `embed.py` writes into a Parquet file; nothing of other files."""
    if Path(file).suffix.lower() != ".parquet":
        return {}
    found = papq.read_schema(file).metadata or {}
    if b"reidray" not in found:
        return {}
    return {key.decode(): value.decode(errors="replace") for key, value in found.items()}


def _check_common_person(features: FeatureFiles, query_file: str, gallery_file: str) -> None:
    """Check that a person of the queries is in the gallery.

    Raises:
        UserError: the queries and the gallery have no person in common.
    """
    names = {person_id: name for name, person_id in features.person_ids.items()}

    def people_in(images: ImageFeatures) -> set[str]:
        return {names.get(each, str(each)) for each in images.labels.person_ids.tolist()}

    query, gallery = people_in(features.query), people_in(features.gallery)
    if not query & gallery:
        raise no_common_name_error("person", query_file, query, gallery_file, gallery)


def evaluate_features(
    query: ImageFeatures,
    gallery: ImageFeatures,
    config: EvaluateConfig,
    *,
    metric: str,
    source: str,
) -> EvaluationResult:
    """Evaluate features under the protocol of a configuration.

    Args:
        query: features of Q images.
        gallery: features of G images.
        config: protocol, rules and further metrics.
        metric: distance between features.
        source: origin of the features, for the message of an error.

    Raises:
        UserError: the features do not fit each other or the protocol, or no query has a match.
    """
    protocol = config.protocol or choose_protocol(query.labels, gallery.labels)
    truth = label_ground_truth(query.labels, gallery.labels, protocol, source)
    images = (
        query.embeddings,
        gallery.embeddings,
        query.labels.person_ids,
        gallery.labels.person_ids,
        query.labels.camera_ids,
        gallery.labels.camera_ids,
    )
    with user_errors_about(source):
        ranking = evaluate(
            *images,
            metric=metric,
            protocol=protocol,
            max_rank=config.max_rank,
            ap_rule=config.ap_rule or "standard",
            unmatched=config.unmatched or "skip",
            reranking=Reranking() if config.rerank else None,
        )
        metrics = {**_metrics_of(ranking), "gallery": len(gallery.embeddings)}
        if config.false_accept_rate is not None:
            rates = evaluate_open_set(*images, metric=metric, protocol=protocol)
            metrics["open_set"] = asdict(rates.at(config.false_accept_rate))
        if config.distractor_scores:
            scores = score_distractors(
                query.embeddings, gallery.embeddings, gallery.uncertainty, metric
            )
            metrics["distractor_scores"] = evaluate_distractor_scores(
                gallery.labels.person_ids, scores, source
            )
    queries = _query_results(query.labels, truth, ranking)
    unmatched = [each.query for each in queries if not each.matches]
    for line in (*describe_unmatched(unmatched), str(ranking)):
        log.info("%s", line)
    return EvaluationResult(
        metrics | unmatched_metrics(unmatched),
        queries,
        curve=ranking.cmc[: len(gallery.embeddings)].tolist(),
        summary=str(ranking),
    )


def _metrics_of(ranking: RankingMetrics) -> dict[str, Any]:
    """Return the metrics by name, with the ranks of `RANKS` within the curve."""
    return {
        "protocol": str(ranking),
        "metric": ranking.metric,
        "mean_ap": ranking.mean_ap,
        "mean_inp": ranking.mean_inp,
        **{
            f"rank{rank}": float(ranking.cmc[rank - 1])
            for rank in RANKS
            if rank <= len(ranking.cmc)
        },
        "queries": len(ranking.average_precision),
        "queries_used": ranking.num_valid_queries,
    }


def _query_results(
    labels: ImageLabels, truth: GroundTruth, ranking: RankingMetrics
) -> tuple[QueryResult, ...]:
    """Return the result of each query."""
    return tuple(
        QueryResult(
            query=str(index) if labels.names is None else labels.names[index],
            person=int(labels.person_ids[index]),
            camera=None if labels.camera_ids is None else int(labels.camera_ids[index]),
            average_precision=None if np.isnan(precision) else float(precision),
            first_match_rank=int(ranking.first_match_rank[index]) or None,
            matches=len(truth.matches(index)),
        )
        for index, precision in enumerate(ranking.average_precision)
    )
