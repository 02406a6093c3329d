"""The truth that the file names of a gallery tell, under a protocol."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.data.ids import nontrivial_names, number_camera_ids, number_person_ids
from reidray.data.reading.file_names import CropName, parse_crop_name
from reidray.errors import UserError
from reidray.evaluation.ground_truth import RankingGroundTruth
from reidray.metrics.protocols import (
    CAMERA_PROTOCOLS,
    GroundTruth,
    ProtocolName,
    build_ground_truth,
    default_protocol,
)
from reidray.metrics.single_shot_galleries import SingleShotGalleries

DRAWN_GALLERIES, DRAWING_SEED = 100, 0  # as `metrics.evaluate` has them


@dataclass(frozen=True, eq=False)
class DrawnGalleries:
    """Galleries of one image per person, for the curve of the protocol `cuhk03`.

    Attributes:
        truth: the labels of queries and gallery.
        queries: index of each query name.
        gallery: index of each gallery name.
    """

    truth: GroundTruth
    queries: Mapping[str, int]
    gallery: Mapping[str, int]

    def curve(self, ranking: Mapping[str, Sequence[str]], length: int) -> NDArray[np.float64]:
        """(length,) the mean over queries and galleries; a name that is not ranked comes last."""
        draws = SingleShotGalleries(self.truth, DRAWN_GALLERIES, DRAWING_SEED)
        found = np.zeros(length)
        for query in ranking:
            positions = np.full(len(self.gallery), np.inf)
            ranked = [self.gallery[name] for name in ranking[query] if name in self.gallery]
            positions[ranked] = np.arange(len(ranked))
            ranks = draws.ranks_from_positions(self.queries[query], positions, self.truth)
            within = ranks[ranks < length].astype(np.int64)
            found += np.bincount(within, minlength=length) / len(ranks)
        curve: NDArray[np.float64] = found.cumsum() / len(ranking)
        return curve


def ground_truth_from_names(
    queries: Collection[str], gallery: Collection[str], protocol: ProtocolName | None = None
) -> RankingGroundTruth:
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
    people = number_person_ids({crop.person for crop in told.values()}, "file names")
    cameras = number_camera_ids({crop.camera for crop in told.values()}, "file names")
    query_ids, gallery_ids = (_column(names, told, people, "person") for names in (asked, held))
    asked_by, held_by = (_column(names, told, cameras, "camera") for names in (asked, held))
    chosen = protocol or default_protocol(query_ids, gallery_ids, asked_by, held_by)
    try:
        shape = len(asked), len(held)
        truth = build_ground_truth(query_ids, gallery_ids, asked_by, held_by, chosen, shape)
    except ValueError as error:
        # Arguments are not flags here: the labels come from the file names.
        reason = str(error).replace("`", "")
        raise UserError(f"file names of the ranking and of `gallery`: {reason}") from None
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
    return RankingGroundTruth(
        correct,
        ignored,
        junk=frozenset(held[index] for index in truth.junk),
        unmatched=tuple(unmatched),
        protocol=chosen,
        people=dict(zip(asked, query_ids.tolist(), strict=True)),
        cameras=dict(zip(asked, asked_by.tolist(), strict=True)),
        person_ids=nontrivial_names(people),
        camera_ids=nontrivial_names(cameras),
        curve=_draw(truth, asked, held).curve if chosen == "cuhk03" else None,
    )


def _draw(truth: GroundTruth, queries: Sequence[str], gallery: Sequence[str]) -> DrawnGalleries:
    places = ({name: row for row, name in enumerate(names)} for names in (queries, gallery))
    return DrawnGalleries(truth, *places)


def _column(
    names: Sequence[str], told: Mapping[str, CropName], numbers: Mapping[str, int], kind: str
) -> NDArray[np.int64]:
    return np.array([numbers[getattr(told[name], kind)] for name in names], np.int64)


def _person_and_camera(name: str) -> CropName:
    found = parse_crop_name(name.replace("\\", "/"))
    if found is None:
        raise UserError(
            f"file name {name!r} tells no person and camera as 0002_c1s1_000451_03.jpg does; "
            "give `truth=FILE`"
        )
    return found
