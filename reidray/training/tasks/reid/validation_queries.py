"""Choose the queries and the gallery of a validation, and check that some query has a match."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.config import ReidValidationConfig, TrainReidConfig
from reidray.config.data_sources import join_values
from reidray.data.crop_labels import CropLabels
from reidray.data.manifest import Manifest
from reidray.data.split import split_by_person
from reidray.errors import UserError
from reidray.metrics.protocols import CAMERA_PROTOCOLS, ProtocolName, default_protocol

QUERY_SEED = 0
"""Seed of random queries, so that two trainings on the same split have the same queries."""

MAX_NAMED_QUERIES = 10
"""Number of queries without a match that a note names."""

MAX_SPLIT_SEEDS = 50
"""Number of split seeds that an error message searches for one whose queries have matches."""


@dataclass(frozen=True)
class RankingPlan:
    """Hold the queries and the gallery of a validation on N images.

    Attributes:
        queries: (N,) bool mask of the query images.
        gallery: (N,) bool mask of the gallery images; an image may be in both.
        protocol: protocol of the evaluation.
        num_valid_queries: number of queries with a match in the gallery.
        unmatched: (U,) int64, indices of the queries without a match.
    """

    queries: NDArray[np.bool_]
    gallery: NDArray[np.bool_]
    protocol: ProtocolName
    num_valid_queries: int
    unmatched: NDArray[np.int64]


def plan_ranking(
    labels: CropLabels, protocol: ProtocolName | None = None, num_queries: int | None = None
) -> RankingPlan:
    """Choose the queries and the gallery among labelled images.

    The first image of each person in each camera is a query, and the other images are the gallery.
    Some people then have no match for one of their queries, because all their images in other
    cameras are queries too. Their only images in a camera therefore join the gallery as well. The
    protocol `market1501` hides an image from the query that it is itself.

    Cameras do not count where each person is seen by one camera alone, or where the camera of some
    image is unknown. A person's only image is then in the gallery and is not a query.

    With `num_queries`, the queries are drawn at random from the images that have a match, and every
    image is in the gallery, where a query does not see itself.

    Args:
        labels: labels of the N images.
        protocol: `market1501`, `cuhk03` or `all`, which ignores cameras; by default the protocol
            that `default_protocol` chooses for the queries and the gallery.
        num_queries: largest number of random queries; by default none is drawn.
    """
    person_ids, camera_ids = labels.person_ids, labels.camera_ids.astype(np.int64)
    use_cameras = bool((camera_ids >= 0).all()) and protocol != "all"
    cameras = camera_ids if use_cameras else np.zeros_like(camera_ids)
    if num_queries is not None:
        return _draw_queries(person_ids, cameras if use_cameras else None, protocol, num_queries)
    person_of = labels.people.person_numbers().astype(np.int64)
    # A number for each person and camera is sorted in a fraction of the time and memory of pairs.
    keys, first, num_images = np.unique(
        (person_of << 16) + cameras, return_index=True, return_counts=True
    )
    person = keys >> 16
    num_cameras = np.bincount(person)[person]
    is_only_image = num_images == 1
    queries = np.zeros(len(person_ids), dtype=np.bool_)
    queries[first] = True
    gallery = ~queries
    unmatched = first[num_cameras == 1]
    if num_cameras.max(initial=0) > 1 or protocol in CAMERA_PROTOCOLS:
        cameras_in_gallery = np.bincount(person, weights=~is_only_image)[person]
        gallery[first[is_only_image & (cameras_in_gallery < 2)]] = True
    else:
        queries[first[is_only_image]] = False
        gallery[first[is_only_image]] = True
        unmatched = unmatched[:0]
    protocol = protocol or default_protocol(
        person_ids[queries],
        person_ids[gallery],
        cameras[queries] if use_cameras else None,
        cameras[gallery] if use_cameras else None,
    )
    num_valid = int(queries.sum()) - len(unmatched)
    return RankingPlan(queries, gallery, protocol, num_valid, unmatched)


def _draw_queries(
    person_ids: NDArray[np.int64],
    cameras: NDArray[np.int64] | None,
    protocol: ProtocolName | None,
    num_queries: int,
) -> RankingPlan:
    """Draw queries at random from the images that have a match among all images.

    Args:
        person_ids: (N,) person of each image.
        cameras: (N,) camera of each image; None where cameras do not count.
        protocol: protocol of the evaluation, as in `plan_ranking`.
        num_queries: largest number of queries.
    """
    protocol = protocol or default_protocol(person_ids, person_ids, cameras, cameras)
    images = np.arange(len(person_ids))
    hidden = images if cameras is None or protocol not in CAMERA_PROTOCOLS else cameras
    num_hidden = _count_equal(np.stack([person_ids, hidden]))
    with_match = np.flatnonzero(_count_equal(person_ids) > num_hidden)
    drawn = np.random.default_rng(QUERY_SEED).permutation(with_match)[:num_queries]
    queries = np.zeros(len(person_ids), dtype=np.bool_)
    queries[drawn] = True
    return RankingPlan(queries, np.ones_like(queries), protocol, len(drawn), with_match[:0])


def _count_equal(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the columns (..., N) that are equal to each of them, (N,)."""
    _, inverse, counts = np.unique(columns, axis=-1, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse])


def count_queries(labels: CropLabels, validation: ReidValidationConfig) -> dict[str, int]:
    """Return the number of queries with a match in each data set, named as in `by_dataset`.

    Args:
        labels: labels of the validation images.
        validation: rules of the validation.
    """
    return {
        name: plan_ranking(part, validation.protocol, validation.num_queries).num_valid_queries
        for name, part in labels.by_dataset().items()
    }


def check_cameras(config: TrainReidConfig, validation: CropLabels) -> None:
    """Check that every validation image has a camera where the protocol needs cameras.

    Raises:
        UserError: an image has no camera.
    """
    protocol = config.validation.protocol
    unknown = int((validation.camera_ids < 0).sum())
    if protocol in CAMERA_PROTOCOLS and unknown:
        raise UserError(
            f"{join_values(config.data)}: `validation.protocol={protocol}` needs cameras, and "
            f"{unknown} of {len(validation)} validation images have none: leave it out, or choose "
            "all"
        )


def check_queries(config: TrainReidConfig, read: Manifest, validation: CropLabels) -> None:
    """Check that the validation people can select the best epoch.

    Args:
        config: configuration of the training.
        read: manifest before the split.
        validation: labels of the validation images.

    Raises:
        UserError: no query has a match, or no attribute is known where attributes select the
            epoch. The message suggests a change.
    """
    selects_by_attributes = config.validation.select_by == "attribute_accuracy"
    if selects_by_attributes and not (validation.attribute_labels >= 0).any():
        raise UserError(
            f"{join_values(config.data)}: no attribute of the validation people is known, and the "
            "best epoch is to be that of the best attribute_accuracy: use "
            "`validation.select_by=mean_ap`"
        )
    parts = validation.by_dataset()
    for dataset, queries in count_queries(validation, config.validation).items():
        if not queries:
            _refuse_queries(config, read, parts[dataset], dataset)


def _refuse_queries(
    config: TrainReidConfig, read: Manifest, validation: CropLabels, dataset: str
) -> NoReturn:
    """Refuse the validation images of a data set, in which no query has a match.

    Args:
        config: configuration of the training.
        read: manifest before the split.
        validation: labels of the images.
        dataset: name of the set; empty for one set.
    """
    found = (
        f"none of the {validation.num_people} validation people has a second one"
        if validation.num_people
        else "val shows nobody known"
    )
    rows = read.rows_of(dataset) if dataset else read.table
    if pc.any(pc.equal(rows["split"], "val")).as_py():
        advice = "add a second image of people in val, of another camera where there are several"
    elif (seed := _find_split_seed(config, read)) is None:
        advice = (
            "add images to the set until some people have two, of different cameras where there "
            "are several"
        )
    elif config.split_order == "random":
        advice = f"choose other people by `split_seed={seed}`"
    else:
        with_seed = f" and `split_seed={seed}`" if seed else ""
        advice = f"raise `val_fraction`, or use `split_order=random`{with_seed}"
    raise UserError(
        f"{dataset or config.data}: validation looks for another image of each person, and "
        f"{found}: {advice}"
    )


def validation_notes(
    config: TrainReidConfig, manifest: Manifest, validation: CropLabels
) -> list[str]:
    """Return notes on the limits of the validation metrics, one line each.

    Args:
        config: configuration of the training.
        manifest: manifest with the paths of the images.
        validation: labels of the validation images.
    """
    notes = []
    for dataset, part in validation.by_dataset().items():
        found = _dataset_notes(config, manifest, part)
        notes += [f"{dataset}: {note}" if dataset else note for note in found]
    return notes


def _dataset_notes(
    config: TrainReidConfig, manifest: Manifest, validation: CropLabels
) -> list[str]:
    """Return notes on the validation images of one data set."""
    plan = plan_ranking(validation, config.validation.protocol, config.validation.num_queries)
    num_queries = int(plan.queries.sum())
    notes = []
    if plan.num_valid_queries < num_queries:
        indices = validation.indices[plan.unmatched[:MAX_NAMED_QUERIES]]
        column = manifest.table["path"]
        paths = ", ".join(repr(column[index].as_py()) for index in indices.tolist())
        more = ", ..." if len(plan.unmatched) > MAX_NAMED_QUERIES else ""
        notes.append(
            f"validation queries without an image of the same person in another camera, not "
            f"judged: {len(plan.unmatched)} of {num_queries} ({paths}{more})"
        )
    if validation.num_people == 1:
        notes.append(
            "validation shows one person, so that every ranking is right: raise `val_fraction` or "
            "add people"
        )
    return notes


def _find_split_seed(config: TrainReidConfig, read: Manifest) -> int | None:
    """Return a seed of a random split for which some validation query of each set has a match."""
    for seed in range(MAX_SPLIT_SEEDS):
        split = split_by_person(read, val_fraction=config.val_fraction, seed=seed)
        validation = CropLabels.from_manifest(split, "val")
        if all(count_queries(validation, config.validation).values()):
            return seed
    return None
