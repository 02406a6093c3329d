"""Figures of a night's files against a known truth."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reidray.accuracy import attribute_accuracy, most_frequent
from reidray.data.annotations import ANNOTATION_COLUMNS, encode_annotation_row, read_annotations
from reidray.data.attributes import PEDESTRIAN_SCHEMA, UNKNOWN
from reidray.data.identities import number_people, read_number
from reidray.data.image_folders import list_images
from reidray.data.layouts.names import CropName, person_and_camera_of
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.scoring.config import EvaluateConfig
from reidray.scoring.evaluation import RANKS, Evaluation, QueryFigures
from reidray.scoring.ranking_file import read_ranking

JUNK = -1


@dataclass(frozen=True)
class RankingTruth:
    """What is right.

    Attributes:
        correct: query name to the names of the gallery images of the same person.
        ignored: query name to names that count neither as right nor as wrong.
    """

    correct: Mapping[str, frozenset[str]]
    ignored: Mapping[str, frozenset[str]] = field(default_factory=dict)


def judge_ranking(
    ranking: Mapping[str, Sequence[str]], truth: RankingTruth, max_rank: int = 50
) -> Evaluation:
    """The figures of a ranking as the Trento course scores it.

    For each query of the truth, AP is the sum over the ranks that hold a correct name of
    (correct so far / rank), divided by the number of correct names in the truth, so that names
    beyond the end of the list count as missed. A query without a line counts 0 in every figure.

    Args:
        ranking: query name to gallery names, the best first.
        truth: what is right.
        max_rank: length of the curve, which is no longer than the longest list.

    Returns:
        The figures `mean_ap`, `rank1`, `rank5`, `rank10`, `queries` of the truth and how many are
        `missing`, with the curve and the figures of each query of the truth.
    """
    queries, longest = [], 1
    for query, correct in truth.correct.items():
        ignored = truth.ignored.get(query, frozenset())
        ranked = [name for name in ranking.get(query, ()) if name not in ignored]
        queries.append(_judge_query(query, ranked, correct))
        longest = max(longest, len(ranked))
    firsts = np.array([query.first_match_rank or np.inf for query in queries])
    curve = [float((firsts <= rank).mean()) for rank in range(1, min(max_rank, longest) + 1)]
    figures = {"mean_ap": float(np.mean([query.average_precision for query in queries]))}
    figures |= {f"rank{rank}": float((firsts <= rank).mean()) for rank in RANKS}
    missing = sum(query not in ranking for query in truth.correct)
    summary = (
        f"mAP {figures['mean_ap']:.4f}, "
        + ", ".join(f"rank-{rank} {figures[f'rank{rank}']:.4f}" for rank in RANKS)
        + f" (ranking file, names beyond its end count as missed, {len(queries)} queries, "
        f"{missing} without a line counted as zero)"
    )
    counts = {"queries": len(queries), "missing": missing}
    return Evaluation(figures | counts, queries, curve, summary)


def _judge_query(query: str, ranked: Sequence[str], correct: frozenset[str]) -> QueryFigures:
    hits = [rank for rank, name in enumerate(ranked, start=1) if name in correct]
    told = person_and_camera_of(query)
    return QueryFigures(
        query=query,
        person=None if told is None else read_number(told.person),
        camera=None if told is None else read_number(told.camera),
        average_precision=sum(n / rank for n, rank in enumerate(hits, start=1)) / len(correct),
        first_match_rank=hits[0] if hits else None,
        matches=len(correct),
    )


def read_truth(path: Path) -> RankingTruth:
    """A truth file: a JSON object, query name to the list of its correct gallery names.

    Raises:
        UserError: it cannot be read, or is not such an object.
    """
    try:
        entries = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"truth {path} is not JSON ({error})") from None
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"truth {path}: expected an object, query name to a list of names")
    for query, names in entries.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"truth {path}: query {query!r} has no list of gallery names")
        if not names:
            raise UserError(f"truth {path}: query {query!r} has no correct name; leave it out")
    return RankingTruth({query: frozenset(names) for query, names in entries.items()})


def truth_from_names(queries: Collection[str], gallery: Collection[str]) -> RankingTruth:
    """The truth that file names such as `0002_c1s1_000451_03.jpg` tell.

    Right is the same person seen by another camera. The query's own camera and junk (person -1)
    are ignored, as by the Market-1501 protocol; queries that nothing matches are left out.

    Raises:
        UserError: a name does not tell, or no query has a match.
    """
    told = {name: _person_and_camera(name) for name in (*gallery, *queries)}
    numbers = number_people({crop.person for crop in told.values()}, "file names")
    cameras: dict[int, dict[str, str]] = defaultdict(dict)
    for name in gallery:
        cameras[numbers[told[name].person]][name] = told[name].camera
    correct, ignored = {}, {}
    for query in queries:
        same, camera = cameras[numbers[told[query].person]], told[query].camera
        if right := frozenset(name for name, other in same.items() if other != camera):
            correct[query] = right
            ignored[query] = frozenset(same.keys() - right) | cameras[JUNK].keys()
    if not correct:
        raise UserError("no query of the ranking has its person in the gallery by another camera")
    return RankingTruth(correct, ignored)


def judge_attributes(
    predicted: Mapping[str, Mapping[str, int]], truth: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Accuracy of predicted attribute codes, image by image of the truth.

    Both of the usual meanings are given: the mean over the 12 attributes, and over the 27 columns
    of the file. Beside each is what always guessing the truth's own most frequent value would
    reach. An image without a prediction counts as wrong.

    Raises:
        UserError: the two have no image in common.
    """
    if not truth.keys() & predicted.keys():
        raise UserError("--attributes and --attributes-truth have no id in common")
    nothing = dict.fromkeys(PEDESTRIAN_SCHEMA.names, UNKNOWN)
    codes, guesses = (
        np.array(
            [[side.get(name, nothing)[a] for a in PEDESTRIAN_SCHEMA.names] for name in truth],
            dtype=np.int64,
        )
        for side in (truth, predicted)
    )
    majority = most_frequent(codes, PEDESTRIAN_SCHEMA)
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
    return figures | {"images": len(truth), "missing_images": missing}


def judge_files(config: EvaluateConfig) -> Evaluation:
    """The figures of a ranking file, an attribute file or both.

    Raises:
        UserError: a file cannot be read or is not of its form.
    """
    judged = Evaluation({})
    if config.ranking is not None:
        ranking = read_ranking(_read(Path(config.ranking)), config.ranking)
        if config.truth is not None:
            truth = read_truth(Path(config.truth))
        else:
            truth = truth_from_names(
                ranking, list_images(Location(config.gallery or "", config.follow_links))
            )
        judged = judge_ranking(ranking, truth, config.max_rank)
    if config.attributes is not None and config.attributes_truth is not None:
        predicted, known = (
            read_annotations(_read(Path(file)), file)
            for file in (config.attributes, config.attributes_truth)
        )
        judged = replace(judged, figures=judged.figures | judge_attributes(predicted, known))
    return judged


def _person_and_camera(name: str) -> CropName:
    found = person_and_camera_of(name)
    if found is None:
        raise UserError(
            f"file name {name!r} tells no person and camera as 0002_c1s1_000451_03.jpg does; "
            "give --truth FILE"
        )
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"file {path} cannot be read ({error.strerror}); check the name") from None
