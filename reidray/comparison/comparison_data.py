"""Which images are compared on: the ranking's, and those that test naming by neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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

NAMED_IN_GALLERY = "query images, named by the gallery"
NAMED_IN_VALIDATION = (
    "the gallery has one image of each person, so these are images of validation people from "
    "the training set: the first of each person in each camera (the first of all, where there is "
    "one in each), named by the others"
)


@dataclass(frozen=True)
class ComparedImages:
    """Images by their part in a comparison.

    Attributes:
        location: the folder their names are relative to.
        fingerprint: of the whole manifest.
        dataset: its layout, counts and notes.
        train: what the baselines learn from.
        sets: query and gallery of the ranking; where that gallery has one image of each person,
            also a query and a gallery of validation people with several.
        protocol: rules of the ranking.
        id_name_files: by name, the files that say which number stands for which person's name.
    """

    location: Location
    fingerprint: str
    dataset: Mapping[str, Any]
    train: ImageLabels
    sets: tuple[ImageLabels, ...]
    protocol: str
    id_name_files: Mapping[str, str]

    @property
    def naming(self) -> str:
        """Which images the nearest-neighbour accuracy is of; they are the last two sets."""
        return NAMED_IN_GALLERY if len(self.sets) == 2 else NAMED_IN_VALIDATION

    @property
    def set_names(self) -> tuple[str, ...]:
        """What each set is called."""
        return ("query", "gallery", "validation_query", "validation_gallery")[: len(self.sets)]


def read_comparison_data(config: CompareConfig) -> ComparedImages:
    """The images of a labelled set, each in its part.

    Raises:
        UserError: the set has no query, gallery or training images, does not tell who is on them,
            or is too small for what is asked.
    """
    manifest = read_manifest(
        config.data, config.layout, root=config.root, follow_links=config.follow_links
    )
    root = manifest.root
    query, gallery = (
        read_labels(check_split_labels(manifest.split(name), name, root))
        for name in ("query", "gallery")
    )
    usual = choose_protocol(query, gallery)
    protocol = config.protocol or usual
    label_ground_truth(query, gallery, protocol, root)
    train, validation = _training(manifest, config)
    _check_components(config, len(train.person_ids), root)
    sets: tuple[ImageLabels, ...] = (query, gallery)
    if usual == "single_shot":
        sets += _named_by_others(validation, root)
    names = id_name_files(manifest.person_ids, manifest.camera_ids)
    return ComparedImages(
        location=manifest.location,
        fingerprint=manifest.fingerprint,
        dataset=manifest.summary,
        train=train,
        sets=sets,
        protocol=protocol,
        id_name_files=names,
    )


def _training(manifest: Manifest, config: CompareConfig) -> tuple[ImageLabels, ImageLabels]:
    """Images of the people to learn from, and of those kept for validation."""
    if not manifest.split("train").num_rows:
        raise UserError(f"{manifest.root}: has no train images, which the baselines learn from")
    split = split_by_person(manifest, config.val_fraction, config.split_seed)
    return _known(split.split("train")), _known(split.split("val"))


def _known(table: pa.Table) -> ImageLabels:
    """The images of people with a name."""
    return read_labels(table.filter(pa.compute.greater(table["person"], 0)))


def _named_by_others(labels: ImageLabels, root: str) -> tuple[ImageLabels, ImageLabels]:
    """Return the images to name and the images that name them.

    The first image of each person in each camera is named by the others. Of a person with one
    image in each camera the first alone is named; a person's only image is not.

    Raises:
        UserError: nobody has two images.
    """
    cameras = np.zeros_like(labels.person_ids) if labels.camera_ids is None else labels.camera_ids
    pairs = np.stack([labels.person_ids, cameras])
    _, first_of_pair = np.unique(pairs, axis=1, return_index=True)
    asked = np.zeros(len(labels.person_ids), np.bool_)
    asked[first_of_pair] = True
    _, first, person, images = np.unique(
        labels.person_ids, return_index=True, return_inverse=True, return_counts=True
    )
    all_asked = np.bincount(person, weights=asked) == images
    asked[all_asked[person]] = False
    asked[first[all_asked & (images > 1)]] = True
    if not asked.any():
        raise UserError(
            f"{root}: the gallery has one image of each person, so that neighbours are taken from "
            "validation people of the training set, and none of these has two images: raise "
            "--val-fraction, choose another --split-seed, or add images"
        )
    return labels.take(np.flatnonzero(asked)), labels.take(np.flatnonzero(~asked))


def _check_components(config: CompareConfig, images: int, root: str) -> None:
    values = config.height * config.width * (1 if config.grey else 3)
    for components in config.pca:
        if components > min(images, values):
            raise UserError(
                f"--pca {components:g}: {root} has {images:,} images to learn from, of "
                f"{values:,} values each; ask for at most {min(images, values):,} components"
            )


def image_names(labels: ImageLabels) -> tuple[str, ...]:
    """The paths of images, which those of a manifest have."""
    assert labels.names is not None
    return labels.names
