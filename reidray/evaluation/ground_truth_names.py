"""Build the ground truth of a ranking from file names, under a protocol."""

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

NUM_GALLERIES, GALLERY_SEED = 100, 0
"""Number and seed of the single-shot galleries, as in `metrics.evaluate`."""


@dataclass(frozen=True, eq=False)
class SampledGalleries:
    """Compute the curve of the protocol `cuhk03`, over galleries of one image per person.

    Attributes:
        truth: ground truth of queries and gallery.
        query_indices: index of each query, by name.
        gallery_indices: index of each gallery image, by name.
    """

    truth: GroundTruth
    query_indices: Mapping[str, int]
    gallery_indices: Mapping[str, int]

    def curve(self, ranking: Mapping[str, Sequence[str]], length: int) -> NDArray[np.float64]:
        """Return the cumulative match curve of a ranking, the mean over queries and galleries.

        Args:
            ranking: query name to gallery names, best first; other gallery images come last.
            length: length of the curve.

        Returns:
            (length,) float64.
        """
        galleries = SingleShotGalleries(self.truth, NUM_GALLERIES, GALLERY_SEED)
        matches = np.zeros(length)
        for query, names in ranking.items():
            positions = np.full(len(self.gallery_indices), np.inf)
            ranked = [self.gallery_indices[name] for name in names if name in self.gallery_indices]
            positions[ranked] = np.arange(len(ranked))
            ranks = galleries.ranks_from_positions(self.query_indices[query], positions, self.truth)
            within = ranks[ranks < length].astype(np.int64)
            matches += np.bincount(within, minlength=length) / len(ranks)
        curve: NDArray[np.float64] = matches.cumsum() / len(ranking)
        return curve


def ground_truth_from_names(
    queries: Collection[str], gallery: Collection[str], protocol: ProtocolName | None = None
) -> RankingGroundTruth:
    """Return the ground truth from file names such as `0002_c1s1_000451_03.jpg`.

    Queries without a match are in `unmatched`.

    Args:
        queries: names of the queries.
        gallery: names of all gallery images.
        protocol: the protocol; by default that of `default_protocol`.

    Raises:
        UserError: a name has no person and camera, the labels do not fit the protocol, or no query
            has a match.
    """
    query_names, gallery_names = list(queries), list(gallery)
    crops = {name: _parse(name) for name in (*query_names, *gallery_names)}
    person_id_of = number_person_ids({crop.person for crop in crops.values()}, "file names")
    camera_id_of = number_camera_ids({crop.camera for crop in crops.values()}, "file names")

    def person_ids_of(names: Sequence[str]) -> NDArray[np.int64]:
        return np.array([person_id_of[crops[name].person] for name in names], np.int64)

    def camera_ids_of(names: Sequence[str]) -> NDArray[np.int64]:
        return np.array([camera_id_of[crops[name].camera] for name in names], np.int64)

    query_ids, query_cameras = person_ids_of(query_names), camera_ids_of(query_names)
    gallery_ids, gallery_cameras = person_ids_of(gallery_names), camera_ids_of(gallery_names)
    labels = query_ids, gallery_ids, query_cameras, gallery_cameras
    chosen = protocol or default_protocol(*labels)
    try:
        shape = len(query_names), len(gallery_names)
        truth = build_ground_truth(*labels, chosen, shape)
    except ValueError as error:
        # The message names arguments, but the labels come from the file names.
        reason = str(error).replace("`", "")
        raise UserError(f"file names of the ranking and of `gallery`: {reason}") from None
    correct, ignored, unmatched = {}, {}, []
    for index, query in enumerate(query_names):
        matches = truth.matches(index)
        if not len(matches):
            unmatched.append(query)
            continue
        correct[query] = frozenset(gallery_names[match] for match in matches)
        if chosen in CAMERA_PROTOCOLS:
            same = frozenset(gallery_names[each] for each in truth.same_person(index))
            ignored[query] = same - correct[query]
    return RankingGroundTruth(
        correct,
        ignored,
        junk=frozenset(gallery_names[index] for index in truth.junk),
        unmatched=tuple(unmatched),
        protocol=chosen,
        query_person_ids=dict(zip(query_names, query_ids.tolist(), strict=True)),
        query_camera_ids=dict(zip(query_names, query_cameras.tolist(), strict=True)),
        person_ids=nontrivial_names(person_id_of),
        camera_ids=nontrivial_names(camera_id_of),
        curve=_sampled_galleries(truth, query_names, gallery_names).curve
        if chosen == "cuhk03"
        else None,
    )


def _sampled_galleries(
    truth: GroundTruth, queries: Sequence[str], gallery: Sequence[str]
) -> SampledGalleries:
    return SampledGalleries(
        truth,
        query_indices={name: index for index, name in enumerate(queries)},
        gallery_indices={name: index for index, name in enumerate(gallery)},
    )


def _parse(name: str) -> CropName:
    """Return the person and the camera of a file name.

    Raises:
        UserError: the name holds none.
    """
    crop = parse_crop_name(name.replace("\\", "/"))
    if crop is None:
        raise UserError(
            f"file name {name!r} holds no person and camera, as 0002_c1s1_000451_03.jpg does; "
            "give `truth=FILE`"
        )
    return crop
