"""Figures of features: how well those of a gallery answer those of the queries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from reidray.errors import UserError
from reidray.retrieval import RankingMetrics, Reranking, evaluate, open_set
from reidray.retrieval.protocols import JUNK, Truth, read_truth
from reidray.scoring.config import EvaluateConfig, ProtocolName
from reidray.scoring.distractors import score_images, separation_figures
from reidray.scoring.evaluation import RANKS, Evaluation, ImageLabels, QueryFigures
from reidray.scoring.feature_files import ImageFeatures, read_features


def judge_feature_files(config: EvaluateConfig) -> Evaluation:
    """The figures of a file of the queries' features against one of the gallery's.

    Args:
        config: with `query_features` and `gallery_features`.

    Raises:
        UserError: a file cannot be read, or the two do not fit each other or the rules.
    """
    files = [config.query_features or "", config.gallery_features or ""]
    found = read_features(*files)
    query, gallery = found.sets
    judged = judge_features(
        query, gallery, config, metric=config.metric or "euclidean", source=" with ".join(files)
    )
    return replace(judged, person_ids=found.person_ids, camera_ids=found.camera_ids)


def judge_features(
    query: ImageFeatures,
    gallery: ImageFeatures,
    config: EvaluateConfig,
    *,
    metric: str,
    source: str,
) -> Evaluation:
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
    protocol = config.protocol or default_protocol(query.labels, gallery.labels)
    truth = right_answers(query.labels, gallery.labels, protocol, source)
    people = query.labels.people, gallery.labels.people
    cameras = query.labels.cameras, gallery.labels.cameras
    with _mistakes_in(source):
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
            rates = open_set(*images, metric=metric, protocol=protocol)
            figures["open_set"] = asdict(rates.at(config.false_accept_rate))
        if config.distractor_scores:
            scores = score_images(query.embeddings, gallery.embeddings, gallery.doubt, metric)
            figures["distractor_scores"] = separation_figures(gallery.labels.people, scores, source)
    curve = metrics.cmc[: len(gallery.embeddings)].tolist()
    return Evaluation(figures, _query_figures(query.labels, truth, metrics), curve, str(metrics))


def default_protocol(query: ImageLabels, gallery: ImageLabels) -> ProtocolName:
    """What is judged by where nothing else is asked for.

    `single_shot` where the gallery has one image of each person and no junk, else `market1501`
    where every image has a camera, else `all`.
    """
    if len(np.unique(gallery.people)) == len(gallery.people) and JUNK not in gallery.people:
        return "single_shot"
    has_cameras = query.cameras is not None and gallery.cameras is not None
    return "market1501" if has_cameras else "all"


def right_answers(query: ImageLabels, gallery: ImageLabels, protocol: str, source: str) -> Truth:
    """Which gallery images are each query's matches.

    Raises:
        UserError: the labels do not fit the protocol, or no query has a match.
    """
    shape = len(query.people), len(gallery.people)
    with _mistakes_in(source):
        return read_truth(
            query.people, gallery.people, query.cameras, gallery.cameras, protocol, shape
        )


@contextmanager
def _mistakes_in(source: str) -> Iterator[None]:
    """What is wrong with arrays is wrong with where they come from."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


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
        "queries_without_match": queries - used,
    }


def _query_figures(
    labels: ImageLabels, truth: Truth, metrics: RankingMetrics
) -> tuple[QueryFigures, ...]:
    return tuple(
        QueryFigures(
            query=str(row) if labels.names is None else labels.names[row],
            person=int(labels.people[row]),
            camera=None if labels.cameras is None else int(labels.cameras[row]),
            average_precision=None if np.isnan(precision) else float(precision),
            first_match_rank=int(metrics.first_match_rank[row]) or None,
            matches=len(truth.matches(row)),
        )
        for row, precision in enumerate(metrics.average_precision)
    )
