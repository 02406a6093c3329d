"""Collect the crops of folders, and build a manifest of them with annotated attributes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.ids import nontrivial_names, number_camera_ids, number_person_ids
from reidray.data.manifest import NO_ATTRIBUTES, Manifest
from reidray.data.manifest_builder import build_manifest
from reidray.data.reading.annotations import attribute_columns, read_annotations
from reidray.data.reading.file_names import parse_crop_name
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

ANNOTATIONS = "annotations_train.csv"


class Crop(NamedTuple):
    """Hold a crop with the person and the camera that its folder or file name contains.

    Attributes:
        path: the path relative to the root.
        split: `train`, `val`, `query` or `gallery`.
        person: the name or number of the person, as it is written; None if unknown.
        camera: the name or number of the camera, as it is written; None if unknown.
    """

    path: str
    split: str
    person: str | int | None = None
    camera: str | int | None = None


def read_named_crops(
    location: Location, folders: Mapping[str, str], *, strict: bool
) -> tuple[list[Crop], list[str]]:
    """Return the crops of some folders, with the person and camera of their file names.

    Args:
        location: the root of the folders.
        folders: the split of each folder; an empty name is the root itself. Folders that do not
            exist are skipped.
        strict: whether a file name without person and camera is an error instead of a note.

    Returns:
        The crops, and notes on the images and other files that were left out.

    Raises:
        UserError: no file name in a folder contains person and camera; or one does not, and
            `strict` is on.
    """
    crops: list[Crop] = []
    notes: list[str] = []
    for folder, split in folders.items():
        if folder and not location.join(folder).is_dir():
            continue
        unnamed = []
        named = len(crops)
        images = find_images(location, folder)
        if images.skipped:
            notes.append(f"{folder or '.'}/: {describe_skipped(images.skipped)}")
        for path in images.paths:
            if found := parse_crop_name(path):
                crops.append(Crop(path, split, found.person, found.camera))
            else:
                unnamed.append(path)
        if unnamed:
            note = (
                f"{folder or '.'}/: names without person and camera, left out: {len(unnamed)} "
                f"(the first is {unnamed[0]!r})"
            )
            if strict or len(crops) == named:
                raise UserError(f"{note}; expected names such as 0002_c1s1_000451_03.jpg")
            notes.append(note)
    return crops, notes


def build_crop_manifest(
    location: Location, crops: Sequence[Crop], layout: str, notes: Sequence[str], *, strict: bool
) -> Manifest:
    """Build the manifest of some crops, with the attributes of `annotations_train.csv`.

    If all people of `val` are in `train` too, `val` is left out, as it cannot measure how well a
    network distinguishes people that it was not trained on.

    Args:
        location: the root of the crops.
        crops: the crops.
        layout: the name of the layout.
        notes: the notes of the manifest.
        strict: whether the annotation file must fit the people of `train`.

    Raises:
        UserError: two people have the same number, or the annotation file is wrong, or it does not
            fit and `strict` is on.
    """
    crops, dropped = _drop_known_validation(crops)
    notes = (*notes, *dropped)
    people = [_as_text(crop.person) for crop in crops]
    cameras = [_as_text(crop.camera) for crop in crops]
    person_of = number_person_ids(filter(None, people), location.uri)
    camera_of = number_camera_ids(filter(None, cameras), location.uri)
    columns: dict[str, object] = {
        "path": [crop.path for crop in crops],
        "split": [crop.split for crop in crops],
        "person": [None if name is None else person_of[name] for name in people],
        "camera": [None if name is None else camera_of[name] for name in cameras],
    }
    schema = NO_ATTRIBUTES
    if location.join(ANNOTATIONS).is_file():
        annotations = read_annotations(location.read_bytes(ANNOTATIONS), ANNOTATIONS)
        train_people = [
            None if name is None or crop.split != "train" else person_of[name]
            for crop, name in zip(crops, people, strict=True)
        ]
        attributes, mismatches = attribute_columns(
            train_people, annotations, ANNOTATIONS, nontrivial_names(person_of), strict=strict
        )
        columns, schema, notes = columns | attributes, PEDESTRIAN_SCHEMA, (*notes, *mismatches)
    return build_manifest(
        location.uri,
        columns,
        layout=layout,
        schema=schema,
        notes=notes,
        person_ids=nontrivial_names(person_of),
        camera_ids=nontrivial_names(camera_of),
    )


def _drop_known_validation(crops: Sequence[Crop]) -> tuple[Sequence[Crop], list[str]]:
    """Drop `val` if all of its people are in `train`; return the rest, and a note on it."""
    train = {crop.person for crop in crops if crop.split == "train"}
    validation = {crop.person for crop in crops if crop.split == "val"}
    if not validation or not validation <= train:
        return crops, []
    kept = [crop for crop in crops if crop.split != "val"]
    return kept, [
        f"validation images, all of people in train, left out of training and validation: "
        f"{len(crops) - len(kept)}"
    ]


def _as_text(name: str | int | None) -> str | None:
    return None if name is None else str(name)
