"""Evaluate the files of a nightly run against the ground truth."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import EvaluateConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, UNKNOWN
from reidray.data.reading.annotations import (
    ANNOTATION_COLUMNS,
    encode_annotation_row,
    read_annotations,
)
from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.evaluation.evaluation_result import (
    RANKS,
    EvaluationResult,
    QueryResult,
    describe_unmatched,
    unmatched_metrics,
)
from reidray.evaluation.ground_truth import RankingGroundTruth, parse_ground_truth
from reidray.evaluation.name_matching import no_common_name_error, pair_names
from reidray.evaluation.ranking_match import RankingMatch, match_gallery, match_truth
from reidray.evaluation.ranking_parser import parse_candidates
from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
from reidray.storage.location import Location

log = logging.getLogger("reidray")


def evaluate_ranking(
    ranking: Mapping[str, Sequence[str]], truth: RankingGroundTruth, max_rank: int = 50
) -> EvaluationResult:
    """Evaluate a ranking as the Trento course does.

    For each query of the truth, AP is the sum over the ranks that hold a correct name of
    (correct so far / rank), divided by the number of correct names in the truth. So names beyond
    the end of the list count as missed. A query without a line counts 0 in every metric, and a
    query without a match is left out.

    Args:
        ranking: query name to gallery names, best first.
        truth: the correct names.
        max_rank: length of the curve, which is no longer than the longest list.

    Returns:
        The metrics, the curve and the result of each query of the truth. The metrics are `mean_ap`,
        `rank1`, `rank5` and `rank10`; `protocol`, a line that describes the protocol; and the
        numbers of `queries` of the truth, of queries used, of queries without a match and of
        queries `missing` in the ranking.
    """
    queries, kept = [], {}
    for query in truth.correct:
        ignored = truth.ignored.get(query, frozenset()) | truth.junk
        kept[query] = [name for name in ranking.get(query, ()) if name not in ignored]
        queries.append(_evaluate_query(query, kept[query], truth))
    length = max(1, *map(len, kept.values()))
    if truth.curve is not None:
        curve = truth.curve(kept, length)
    else:
        first_ranks = np.array([query.first_match_rank or np.inf for query in queries])
        curve = np.array([(first_ranks <= rank).mean() for rank in range(1, length + 1)])
    metrics = {"mean_ap": float(np.mean([query.average_precision for query in queries]))}
    metrics |= {f"rank{rank}": float(curve[min(rank, length) - 1]) for rank in RANKS}
    missing = sum(query not in ranking for query in truth.correct)
    summary = (
        f"mAP {metrics['mean_ap']:.4f}, "
        + ", ".join(f"rank-{rank} {metrics[f'rank{rank}']:.4f}" for rank in RANKS)
        + f" ({truth.protocol}, ranking file, names beyond its end count as missed, "
        f"{len(queries)} queries used, {missing} of them without a line counted as zero, "
        f"{len(truth.unmatched)} without a match left out)"
    )
    counts = {
        "queries": len(queries) + len(truth.unmatched),
        "queries_used": len(queries),
        **unmatched_metrics(truth.unmatched),
        "missing": missing,
    }
    left_out = [
        QueryResult(
            query,
            truth.query_person_ids.get(query),
            truth.query_camera_ids.get(query),
            average_precision=None,
            first_match_rank=None,
            matches=0,
        )
        for query in truth.unmatched
    ]
    return EvaluationResult(
        {"protocol": summary} | metrics | counts,
        queries + left_out,
        curve[:max_rank].tolist(),
        summary,
        truth.person_ids,
        truth.camera_ids,
    )


def _evaluate_query(query: str, ranked: Sequence[str], truth: RankingGroundTruth) -> QueryResult:
    correct = truth.correct[query]
    hits = [rank for rank, name in enumerate(ranked, start=1) if name in correct]
    return QueryResult(
        query=query,
        person=truth.query_person_ids.get(query),
        camera=truth.query_camera_ids.get(query),
        average_precision=sum(n / rank for n, rank in enumerate(hits, start=1)) / len(correct),
        first_match_rank=hits[0] if hits else None,
        matches=len(correct),
    )


def evaluate_attributes(
    predicted: Mapping[str, Mapping[str, int]], truth: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Evaluate predicted attribute labels, image by image of the truth.

    The metrics hold the mean accuracy over the 12 attributes and the mean accuracy over the 27
    columns of the file, each with the accuracy of a constant prediction of the most frequent value
    in the truth. An image without a prediction counts as wrong. `pair_names` pairs the names.

    Args:
        predicted: predicted labels of each image, by its name.
        truth: correct labels of each image, by its name.

    Raises:
        UserError: the two have no image in common, or names can be paired in two ways.
    """
    pairs = pair_names(predicted, truth)
    pairs.check("`attributes`", "`attributes_truth`")
    if not pairs.counterparts:
        raise no_common_name_error("id", "`attributes`", predicted, "`attributes_truth`", truth)
    num_unknown = len(predicted) - len(pairs.counterparts)
    predicted = {known: predicted[name] for name, known in pairs.counterparts.items()}
    correct, guessed = _label_array(truth, truth), _label_array(predicted, truth)
    majority = majority_labels(correct, PEDESTRIAN_SCHEMA)
    metrics = attribute_accuracy(guessed, correct.astype(np.int8), PEDESTRIAN_SCHEMA, majority)
    correct_columns = np.array([encode_annotation_row(labels) for labels in truth.values()])
    blank = (0,) * len(ANNOTATION_COLUMNS)
    guessed_columns = np.array(
        [encode_annotation_row(predicted[name]) if name in predicted else blank for name in truth]
    )
    metrics["column_accuracy"] = float((guessed_columns == correct_columns).mean())
    shares = [np.bincount(column).max() / len(column) for column in correct_columns.T]
    metrics["column_majority"] = float(np.mean(shares))
    metrics["majority_from"] = "the truth itself"
    num_missing = len(truth.keys() - predicted.keys())
    if num_missing or num_unknown:
        log.info(
            "attributes: %d of %d images of the truth have no prediction and count as wrong; "
            "%d predicted images are not in the truth",
            num_missing,
            len(truth),
            num_unknown,
        )
    return metrics | {
        "images": len(truth),
        "missing_images": num_missing,
        "unknown_images": num_unknown,
    }


def _label_array(
    labels: Mapping[str, Mapping[str, int]], images: Collection[str]
) -> NDArray[np.int64]:
    """Return (N, 12) labels of N images; an image without labels has `UNKNOWN`."""
    unknown = dict.fromkeys(PEDESTRIAN_SCHEMA.names, UNKNOWN)
    rows = [
        [labels.get(name, unknown)[attribute] for attribute in PEDESTRIAN_SCHEMA.names]
        for name in images
    ]
    return np.array(rows, dtype=np.int64)


def evaluate_ranking_files(config: EvaluateConfig) -> EvaluationResult:
    """Evaluate a ranking file, an attribute file or both.

    Args:
        config: evaluation with `ranking`, or with `attributes` and `attributes_truth`.

    Raises:
        UserError: a file cannot be read or has another form, or it has nothing in common with the
            truth.
    """
    result = EvaluationResult({})
    if config.ranking is not None:
        matched = _match_ranking(config, config.ranking)
        result = evaluate_ranking(matched.ranking, matched.truth, config.max_rank)
        result = replace(result, metrics=result.metrics | matched.metrics())
        for line in (*matched.notes(), *describe_unmatched(matched.truth.unmatched)):
            log.info("%s", line)
        log.info("%s", result.summary)
    if config.attributes is not None and config.attributes_truth is not None:
        predicted = read_annotations(_read(config.attributes), config.attributes)
        truth = read_annotations(_read(config.attributes_truth), config.attributes_truth)
        metrics = evaluate_attributes(predicted, truth)
        result = replace(result, metrics=result.metrics | metrics)
    return result


def _match_ranking(config: EvaluateConfig, file: str) -> RankingMatch:
    """Return a ranking in the names of its ground truth."""
    candidates = parse_candidates(_read(file), file)
    if config.truth is None:
        gallery = list_images(Location(config.gallery or "", config.follow_links))
        return match_gallery(file, candidates, gallery, config.gallery or "", config.protocol)
    truths = parse_ground_truth(Path(config.truth), _read(config.truth))
    return match_truth(file, candidates, config.truth, truths)


def _read(file: str) -> bytes:
    path = Path(file)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"file {path} cannot be read ({error.strerror}); check the name") from None
