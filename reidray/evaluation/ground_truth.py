"""Hold the ground truth of a ranking: the correct gallery images of each query."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidray.data.ids import parse_id_number
from reidray.data.reading.file_names import parse_crop_name
from reidray.errors import UserError
from reidray.evaluation.ranking_parser import ParseCandidate, parse_candidates

TRUTH_FILE = "truth file"


@dataclass(frozen=True)
class RankingGroundTruth:
    """Hold the correct gallery images of each query.

    Attributes:
        correct: query name to the names of the gallery images that match it.
        ignored: query name to names that count neither as correct nor as wrong.
        junk: names that count neither as correct nor as wrong for every query.
        unmatched: queries without a match, which are left out.
        protocol: origin of the ground truth: a protocol, or `truth file`.
        query_person_ids: person id of a query, by its name, where known.
        query_camera_ids: camera id of a query, by its name, where known.
        person_ids: person ids by name, of people with names.
        camera_ids: camera ids by name, of cameras with names.
        curve: function of a ranking and a length that returns its cumulative match curve, where
            the protocol samples galleries.
    """

    correct: Mapping[str, frozenset[str]]
    ignored: Mapping[str, frozenset[str]] = field(default_factory=dict)
    junk: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    protocol: str = TRUTH_FILE
    query_person_ids: Mapping[str, int] = field(default_factory=dict)
    query_camera_ids: Mapping[str, int] = field(default_factory=dict)
    person_ids: Mapping[str, int] = field(default_factory=dict)
    camera_ids: Mapping[str, int] = field(default_factory=dict)
    curve: Callable[[Mapping[str, Sequence[str]], int], NDArray[np.float64]] | None = None

    @property
    def correct_names(self) -> frozenset[str]:
        """Return the gallery names that match any query."""
        return frozenset().union(*self.correct.values())


def parse_ground_truth(path: Path, data: bytes) -> list[ParseCandidate]:
    """Return the ways to parse a truth file: as JSON, or in the forms of a ranking.

    Args:
        path: the file.
        data: its bytes.

    Raises:
        UserError: the file cannot be parsed, or a query has no correct name.
    """
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        _check_json(path, data)
        raise UserError(f"truth {path}: expected an object, query name to a list of names")
    name = f"truth {path}"
    if text.startswith(b"{"):
        _check_json(path, data)
    forms = parse_candidates(data, name)
    if not forms[0].rows:
        raise UserError(f"{name}: expected an object, query name to a list of names")
    for row in forms[0].rows:
        if not row.names:
            raise UserError(f"{name}: query {row.query!r} has no correct name; leave it out")
    return forms


def ranking_ground_truth(form: ParseCandidate) -> RankingGroundTruth:
    """Return the ground truth of a truth file that was parsed in one way."""
    correct: dict[str, frozenset[str]] = {}
    for row in form.rows:
        correct[row.query] = correct.get(row.query, frozenset()) | frozenset(row.names)
    crops = {query: parse_crop_name(query) for query in correct}
    people = {query: parse_id_number(crop.person) for query, crop in crops.items() if crop}
    cameras = {query: parse_id_number(crop.camera) for query, crop in crops.items() if crop}
    return RankingGroundTruth(
        correct,
        query_person_ids={query: number for query, number in people.items() if number is not None},
        query_camera_ids={query: number for query, number in cameras.items() if number is not None},
    )


def _check_json(path: Path, data: bytes) -> None:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"truth {path} is not JSON ({error})") from None
