"""Read the images of a comparison and divide them into sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.config.comparison import CompareConfig
from reidray.data.ids import id_name_files
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.data.split import split_by_person
from reidray.errors import UserError
from reidray.evaluation.image_labels import (
    ImageLabels,
    check_split_labels,
    choose_protocol,
    label_ground_truth,
    read_labels,
)
from reidray.storage.location import Location

QUERY, GALLERY = "query", "gallery"
VALIDATION_QUERY, VALIDATION_GALLERY = "validation_query", "validation_gallery"

CLASSIFIED_BY_GALLERY = "query images, classified by the gallery"
CLASSIFIED_BY_VALIDATION = (
    "the gallery has one image of each person, so these are images of {people}: "
    "the first image of each person in each camera (the first of all, where "
    "each camera has one), classified by the other images"
)
VALIDATION_PEOPLE = "validation people from the training set"
TRAINING_PEOPLE = "training people, whom the baselines have seen"


class NeighbourSets(NamedTuple):
    """Name the sets of the nearest-neighbour accuracy.

    Attributes:
        query: the set of the images to classify.
        gallery: the set of the neighbours.
    """

    query: str
    gallery: str


@dataclass(frozen=True)
class ComparisonData:
    """Hold the images of a comparison.

    Attributes:
        location: the folder of the images.
        fingerprint: the fingerprint of the manifest.
        dataset: layout, counts and notes of the manifest.
        train: the training images of the baselines.
        sets: the images that each method embeds, by the name of the set: query and gallery of the
            ranking; where the gallery has one image of each person, also a query and a gallery of
            validation people.
        protocol: the protocol of the ranking.
        learns_from_all: whether the baselines learn from the validation people too.
        id_name_files: files with the names of persons and cameras by their ids, by file name.
    """

    location: Location
    fingerprint: str
    dataset: Mapping[str, Any]
    train: ImageLabels
    sets: Mapping[str, ImageLabels]
    protocol: str
    learns_from_all: bool
    id_name_files: Mapping[str, str]

    @property
    def query(self) -> ImageLabels:
        """Return the query images of the ranking."""
        return self.sets[QUERY]

    @property
    def gallery(self) -> ImageLabels:
        """Return the gallery images of the ranking."""
        return self.sets[GALLERY]

    @property
    def neighbour_sets(self) -> NeighbourSets:
        """Return the sets of the nearest-neighbour accuracy."""
        if VALIDATION_QUERY in self.sets:
            return NeighbourSets(VALIDATION_QUERY, VALIDATION_GALLERY)
        return NeighbourSets(QUERY, GALLERY)

    @property
    def neighbours_description(self) -> str:
        """Return the images of the nearest-neighbour accuracy, in words."""
        if VALIDATION_QUERY not in self.sets:
            return CLASSIFIED_BY_GALLERY
        people = TRAINING_PEOPLE if self.learns_from_all else VALIDATION_PEOPLE
        return CLASSIFIED_BY_VALIDATION.format(people=people)


def read_comparison_data(config: CompareConfig) -> ComparisonData:
    """Read the images of a labelled dataset and divide them into sets.

    Raises:
        UserError: the dataset has no query, gallery or training images, lacks person ids, or is
            too small.
    """
    manifest = read_manifest(
        config.data, config.layout, root=config.root, follow_links=config.follow_links
    )
    root = manifest.root
    query, gallery = (
        read_labels(check_split_labels(manifest.split(name), name, root))
        for name in (QUERY, GALLERY)
    )
    default_protocol = choose_protocol(query, gallery)
    protocol = config.protocol or default_protocol
    label_ground_truth(query, gallery, protocol, root)
    if not manifest.split("train").num_rows:
        raise UserError(f"{root}: has no train images, which the baselines learn from")
    learns_from_all = not config.val_fraction and not manifest.split("val").num_rows
    split = manifest
    if config.val_fraction:
        split = split_by_person(
            manifest, config.val_fraction, config.split_seed, order=config.split_order
        )
    train = _read_known_people(split, "train")
    _check_components(config, len(train.person_ids), root)
    sets = {QUERY: query, GALLERY: gallery}
    if default_protocol == "single_shot":
        validation = train if learns_from_all else _read_known_people(split, "val")
        is_query = _choose_validation_queries(validation, root)
        sets[VALIDATION_QUERY] = validation.take(np.flatnonzero(is_query))
        sets[VALIDATION_GALLERY] = validation.take(np.flatnonzero(~is_query))
    return ComparisonData(
        location=manifest.location,
        fingerprint=manifest.fingerprint,
        dataset=manifest.summary,
        train=train,
        sets=sets,
        protocol=protocol,
        learns_from_all=learns_from_all,
        id_name_files=id_name_files(manifest.person_ids, manifest.camera_ids),
    )


def image_names(labels: ImageLabels) -> tuple[str, ...]:
    """Return the paths of images that a manifest lists."""
    assert labels.names is not None
    return labels.names


def _read_known_people(manifest: Manifest, split: str) -> ImageLabels:
    """Return the images of a split that show known people."""
    table = manifest.split(split)
    return read_labels(table.filter(pa.compute.greater(table["person"], 0)))


def _choose_validation_queries(labels: ImageLabels, root: str) -> NDArray[np.bool_]:
    """Choose the images to classify; the others classify them.

    They are the first image of each person in each camera. Of a person with one image in each
    camera, it is the first image alone. The only image of a person is not chosen.

    Returns:
        (N,) bool, whether each image is chosen.

    Raises:
        UserError: no person has two images.
    """
    person_ids = labels.person_ids
    camera_ids = np.zeros_like(person_ids) if labels.camera_ids is None else labels.camera_ids
    _, first_of_pair = np.unique(np.stack([person_ids, camera_ids]), axis=1, return_index=True)
    is_query = np.zeros(len(person_ids), np.bool_)
    is_query[first_of_pair] = True
    _, first, person, counts = np.unique(
        person_ids, return_index=True, return_inverse=True, return_counts=True
    )
    has_no_gallery = np.bincount(person, weights=is_query) == counts
    is_query[has_no_gallery[person]] = False
    is_query[first[has_no_gallery & (counts > 1)]] = True
    if not is_query.any():
        raise UserError(
            f"{root}: the gallery has one image of each person, so the nearest-neighbour accuracy "
            "needs validation people of the training set, and none of these has two images: raise "
            "`val_fraction`, choose another `split_seed` or `split_order`, or add images"
        )
    return is_query


def _check_components(config: CompareConfig, images: int, root: str) -> None:
    """Check that there are as many principal components as the baselines need."""
    values = config.height * config.width * (1 if config.grey else 3)
    for components in config.pca:
        if components > min(images, values):
            raise UserError(
                f"`pca={components:g}`: {root} has {images:,} training images of {values:,} "
                f"values each: use at most {min(images, values):,} components"
            )
