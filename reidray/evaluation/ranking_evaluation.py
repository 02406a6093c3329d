"""Figures of a night's files against a known truth."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reidray.config.scoring import EvaluateConfig
from reidray.data.annotations import ANNOTATION_COLUMNS, encode_annotation_row, read_annotations
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, UNKNOWN
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
from reidray.evaluation.name_matching import nothing_in_common, pair_names
from reidray.evaluation.ranking_match import MatchedRanking, match_gallery, match_truth
from reidray.evaluation.ranking_parser import parse_candidates
from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
from reidray.storage.location import Location

log = logging.getLogger("reidray")


def evaluate_ranking(
    ranking: Mapping[str, Sequence[str]], truth: RankingGroundTruth, max_rank: int = 50
) -> EvaluationResult:
    """The figures of a ranking as the Trento course scores it.

    For each query of the truth, AP is the sum over the ranks that hold a correct name of
    (correct so far / rank), divided by the number of correct names in the truth, so that names
    beyond the end of the list count as missed. A query without a line counts 0 in every figure, and
    one that has no right answer is left out.

    Args:
        ranking: query name to gallery names, the best first.
        truth: what is right.
        max_rank: length of the curve, which is no longer than the longest list.

    Returns:
        The figures `mean_ap`, `rank1`, `rank5`, `rank10`, the `protocol` in a line, `queries` of
        the truth, how many are used, have no match, or are `missing` in the ranking, with the
        curve and the figures of each query of the truth.
    """
    queries, kept = [], {}
    for query in truth.correct:
        hidden = truth.ignored.get(query, frozenset())
        kept[query] = [
            name for name in ranking.get(query, ()) if name not in hidden and name not in truth.junk
        ]
        queries.append(_judge_query(query, kept[query], truth))
    length = max(1, *map(len, kept.values()))
    if truth.curve is not None:
        found = truth.curve(kept, length)
    else:
        firsts = np.array([query.first_match_rank or np.inf for query in queries])
        found = np.array([(firsts <= rank).mean() for rank in range(1, length + 1)])
    figures = {"mean_ap": float(np.mean([query.average_precision for query in queries]))}
    figures |= {f"rank{rank}": float(found[min(rank, length) - 1]) for rank in RANKS}
    missing = sum(query not in ranking for query in truth.correct)
    summary = (
        f"mAP {figures['mean_ap']:.4f}, "
        + ", ".join(f"rank-{rank} {figures[f'rank{rank}']:.4f}" for rank in RANKS)
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
        QueryResult(query, truth.people.get(query), truth.cameras.get(query), None, None, 0)
        for query in truth.unmatched
    ]
    return EvaluationResult(
        {"protocol": summary} | figures | counts,
        queries + left_out,
        found[:max_rank].tolist(),
        summary,
        truth.person_ids,
        truth.camera_ids,
    )


def _judge_query(query: str, ranked: Sequence[str], truth: RankingGroundTruth) -> QueryResult:
    correct = truth.correct[query]
    hits = [rank for rank, name in enumerate(ranked, start=1) if name in correct]
    return QueryResult(
        query=query,
        person=truth.people.get(query),
        camera=truth.cameras.get(query),
        average_precision=sum(n / rank for n, rank in enumerate(hits, start=1)) / len(correct),
        first_match_rank=hits[0] if hits else None,
        matches=len(correct),
    )


def evaluate_attributes(
    predicted: Mapping[str, Mapping[str, int]], truth: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Accuracy of predicted attribute codes, image by image of the truth.

    Both of the usual meanings are given: the mean over the 12 attributes, and over the 27 columns
    of the file. Beside each is what always guessing the truth's own most frequent value would
    reach. An image without a prediction counts as wrong. Names are paired as `pair_names` does.

    Raises:
        UserError: the two have no image in common, or names could be paired in two ways.
    """
    sides = "`attributes`", "`attributes_truth`"
    pairs = pair_names(predicted, truth)
    pairs.check(*sides)
    if not pairs.known_as:
        raise nothing_in_common("id", sides[0], predicted, sides[1], truth)
    unknown = len(predicted) - len(pairs.known_as)
    predicted = {known: predicted[name] for name, known in pairs.known_as.items()}
    nothing = dict.fromkeys(PEDESTRIAN_SCHEMA.names, UNKNOWN)
    codes, guesses = (
        np.array(
            [[side.get(name, nothing)[a] for a in PEDESTRIAN_SCHEMA.names] for name in truth],
            dtype=np.int64,
        )
        for side in (truth, predicted)
    )
    majority = majority_labels(codes, PEDESTRIAN_SCHEMA)
    figures = attribute_accuracy(guesses, codes.astype(np.int8), PEDESTRIAN_SCHEMA, majority)
    right = np.array([encode_annotation_row(row) for row in truth.values()])
    blank = (0,) * len(ANNOTATION_COLUMNS)
    given = np.array(
        [encode_annotation_row(predicted[n]) if n in predicted else blank for n in truth]
    )
    figures["column_accuracy"] = float((given == right).mean())
    most = [np.bincount(column).max() / len(column) for column in right.T]
    figures["column_majority"] = float(np.mean(most))
    figures["majority_from"] = "the truth itself"
    missing = len(truth.keys() - predicted.keys())
    if missing or unknown:
        log.info(
            "attributes: %d of %d images of the truth have no prediction and count as wrong; "
            "%d predicted images are not in the truth",
            missing,
            len(truth),
            unknown,
        )
    return figures | {"images": len(truth), "missing_images": missing, "unknown_images": unknown}


def evaluate_ranking_files(config: EvaluateConfig) -> EvaluationResult:
    """The figures of a ranking file, an attribute file or both.

    Raises:
        UserError: a file cannot be read or is not of its form, or it has nothing in common with
            the truth.
    """
    judged = EvaluationResult({})
    if config.ranking is not None:
        matched = _match_ranking(config, config.ranking)
        judged = evaluate_ranking(matched.ranking, matched.truth, config.max_rank)
        judged = replace(judged, metrics=judged.metrics | matched.figures())
        for line in (*matched.notes(), *describe_unmatched(matched.truth.unmatched)):
            log.info("%s", line)
        log.info("%s", judged.summary)
    if config.attributes is not None and config.attributes_truth is not None:
        predicted, known = (
            read_annotations(_read(Path(file)), file)
            for file in (config.attributes, config.attributes_truth)
        )
        judged = replace(judged, metrics=judged.metrics | evaluate_attributes(predicted, known))
    return judged


def _match_ranking(config: EvaluateConfig, file: str) -> MatchedRanking:
    forms = parse_candidates(_read(Path(file)), file)
    if config.truth is None:
        gallery = list_images(Location(config.gallery or "", config.follow_links))
        return match_gallery(file, forms, gallery, config.gallery or "", config.protocol)
    truths = parse_ground_truth(Path(config.truth), _read(Path(config.truth)))
    return match_truth(file, forms, config.truth, truths)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"file {path} cannot be read ({error.strerror}); check the name") from None
