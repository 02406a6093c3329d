"""Which gallery images are right answers to a query, by a truth file or by file names."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidray.data.identities import number_cameras, number_people, read_number, renumbered
from reidray.data.layouts.names import CropName, person_and_camera_of
from reidray.errors import UserError
from reidray.retrieval.draws import SingleImageDraws
from reidray.retrieval.protocols import (
    CAMERA_PROTOCOLS,
    ProtocolName,
    Truth,
    default_protocol,
)
from reidray.retrieval.protocols import read_truth as sort_labels
from reidray.scoring.ranking_forms import ReadForm, read_forms

TRUTH_FILE = "truth file"
DRAWN_GALLERIES, DRAWING_SEED = 100, 0  # as `retrieval.evaluate` has them


@dataclass(frozen=True, eq=False)
class DrawnGalleries:
    """Galleries of one image per person, for the curve of the protocol `cuhk03`.

    Attributes:
        truth: the labels of queries and gallery.
        queries: index of each query name.
        gallery: index of each gallery name.
    """

    truth: Truth
    queries: Mapping[str, int]
    gallery: Mapping[str, int]

    def curve(self, ranking: Mapping[str, Sequence[str]], length: int) -> NDArray[np.float64]:
        """(length,) the mean over queries and galleries; a name that is not ranked comes last."""
        draws = SingleImageDraws(self.truth, DRAWN_GALLERIES, DRAWING_SEED)
        found = np.zeros(length)
        for query in ranking:
            positions = np.full(len(self.gallery), np.inf)
            ranked = [self.gallery[name] for name in ranking[query] if name in self.gallery]
            positions[ranked] = np.arange(len(ranked))
            ranks = draws.ranks_in_list(self.queries[query], positions, self.truth)
            within = ranks[ranks < length].astype(np.int64)
            found += np.bincount(within, minlength=length) / len(ranks)
        curve: NDArray[np.float64] = found.cumsum() / len(ranking)
        return curve


@dataclass(frozen=True)
class RankingTruth:
    """What is right.

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
        drawn: what the curve is made over, where the protocol draws galleries.
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
    drawn: DrawnGalleries | None = None


def read_truth_forms(path: Path, data: bytes) -> list[ReadForm]:
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
    forms = read_forms(data, name)
    if not forms[0].rows:
        raise UserError(f"{name}: expected an object, query name to a list of names")
    for row in forms[0].rows:
        if not row.names:
            raise UserError(f"{name}: query {row.query!r} has no correct name; leave it out")
    return forms


def truth_of(form: ReadForm) -> RankingTruth:
    """The truth that a truth file tells, in one of its readings."""
    correct: dict[str, frozenset[str]] = {}
    for row in form.rows:
        correct[row.query] = correct.get(row.query, frozenset()) | frozenset(row.names)
    told = {query: person_and_camera_of(query) for query in correct}
    people = {query: read_number(crop.person) for query, crop in told.items() if crop}
    cameras = {query: read_number(crop.camera) for query, crop in told.items() if crop}
    return RankingTruth(
        correct,
        people={query: number for query, number in people.items() if number is not None},
        cameras={query: number for query, number in cameras.items() if number is not None},
    )


def truth_from_names(
    queries: Collection[str], gallery: Collection[str], protocol: ProtocolName | None = None
) -> RankingTruth:
    """The truth that file names such as `0002_c1s1_000451_03.jpg` tell.

    Queries that nothing matches are left out.

    Args:
        queries: their names.
        gallery: the names of all gallery images.
        protocol: what counts as found; by default that of `default_protocol`.

    Raises:
        UserError: a name does not tell, the labels do not fit the protocol, or no query has a
            match.
    """
    asked, held = list(queries), list(gallery)
    told = {name: _person_and_camera(name) for name in (*asked, *held)}
    people = number_people({crop.person for crop in told.values()}, "file names")
    cameras = number_cameras({crop.camera for crop in told.values()}, "file names")
    query_ids, gallery_ids = (_column(names, told, people, "person") for names in (asked, held))
    asked_by, held_by = (_column(names, told, cameras, "camera") for names in (asked, held))
    chosen = protocol or default_protocol(query_ids, gallery_ids, asked_by, held_by)
    try:
        shape = len(asked), len(held)
        truth = sort_labels(query_ids, gallery_ids, asked_by, held_by, chosen, shape)
    except ValueError as error:
        raise UserError(f"file names of the ranking and of --gallery: {error}") from None
    correct, ignored, unmatched = {}, {}, []
    for row, query in enumerate(asked):
        matches = truth.matches(row)
        if not len(matches):
            unmatched.append(query)
            continue
        correct[query] = frozenset(held[index] for index in matches)
        if chosen in CAMERA_PROTOCOLS:
            same = frozenset(held[index] for index in truth.same_person(row))
            ignored[query] = same - correct[query]
    return RankingTruth(
        correct,
        ignored,
        junk=frozenset(held[index] for index in truth.junk),
        unmatched=tuple(unmatched),
        protocol=chosen,
        people=dict(zip(asked, query_ids.tolist(), strict=True)),
        cameras=dict(zip(asked, asked_by.tolist(), strict=True)),
        person_ids=renumbered(people),
        camera_ids=renumbered(cameras),
        drawn=_draw(truth, asked, held) if chosen == "cuhk03" else None,
    )


def _draw(truth: Truth, queries: Sequence[str], gallery: Sequence[str]) -> DrawnGalleries:
    places = ({name: row for row, name in enumerate(names)} for names in (queries, gallery))
    return DrawnGalleries(truth, *places)


def _column(
    names: Sequence[str], told: Mapping[str, CropName], numbers: Mapping[str, int], kind: str
) -> NDArray[np.int64]:
    return np.array([numbers[getattr(told[name], kind)] for name in names], np.int64)


def _person_and_camera(name: str) -> CropName:
    found = person_and_camera_of(name)
    if found is None:
        raise UserError(
            f"file name {name!r} tells no person and camera as 0002_c1s1_000451_03.jpg does; "
            "give --truth FILE"
        )
    return found


def _check_json(path: Path, data: bytes) -> None:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"truth {path} is not JSON ({error})") from None
