"""Read which gallery images are right answers to a query."""

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
    """Hold the right answers.

    Attributes:
        correct: query name to the names of the gallery images of the same person.
        ignored: query name to names that count neither as right nor as wrong.
        junk: names that count so for every query.
        unmatched: queries without a right answer, which are left out.
        protocol: what says so: a protocol, or `truth file`.
        people: who is on a query, by name, where known.
        cameras: likewise which camera took it.
        person_ids: the numbers of people who have names.
        camera_ids: likewise of cameras.
        curve: where the protocol draws galleries, the cumulative match curve of a ranking, of a
            length.
    """

    correct: Mapping[str, frozenset[str]]
    ignored: Mapping[str, frozenset[str]] = field(default_factory=dict)
    junk: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    protocol: str = TRUTH_FILE
    people: Mapping[str, int] = field(default_factory=dict)
    cameras: Mapping[str, int] = field(default_factory=dict)
    person_ids: Mapping[str, int] = field(default_factory=dict)
    camera_ids: Mapping[str, int] = field(default_factory=dict)
    curve: Callable[[Mapping[str, Sequence[str]], int], NDArray[np.float64]] | None = None


def parse_ground_truth(path: Path, data: bytes) -> list[ParseCandidate]:
    """The readings of a truth file that its text allows: JSON, or a form of a ranking.

    Raises:
        UserError: it cannot be read, or a query has no correct name.
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
    """The truth that a truth file tells, in one of its readings."""
    correct: dict[str, frozenset[str]] = {}
    for row in form.rows:
        correct[row.query] = correct.get(row.query, frozenset()) | frozenset(row.names)
    told = {query: parse_crop_name(query) for query in correct}
    people = {query: parse_id_number(crop.person) for query, crop in told.items() if crop}
    cameras = {query: parse_id_number(crop.camera) for query, crop in told.items() if crop}
    return RankingGroundTruth(
        correct,
        people={query: number for query, number in people.items() if number is not None},
        cameras={query: number for query, number in cameras.items() if number is not None},
    )


def _check_json(path: Path, data: bytes) -> None:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"truth {path} is not JSON ({error})") from None
