"""Make a manifest of crops that lie in folders, with attributes where a file annotates them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reidray.data.annotations import attribute_columns, read_annotations
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.ids import nontrivial_names, number_camera_ids, number_person_ids
from reidray.data.manifest import NO_ATTRIBUTES, Manifest, build_manifest
from reidray.data.reading.file_names import parse_crop_name
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

ANNOTATIONS = "annotations_train.csv"


class Crop(NamedTuple):
    """One image and what its place and name say of it; None where they do not say.

    Attributes:
        path: relative to the root.
        split: train, val, query or gallery.
        person: the name or number of who is on it, as it is written.
        camera: likewise the camera that took it.
    """

    path: str
    split: str
    person: str | int | None = None
    camera: str | int | None = None


def read_named_crops(
    location: Location, folders: Mapping[str, str], *, strict: bool
) -> tuple[list[Crop], list[str]]:
    """The crops of these folders, each with the person and camera of its name.

    Args:
        location: the root.
        folders: folder within the root, empty for the root itself, to split; a folder that is not
            there is skipped.
        strict: a name of another form is an error, not a note.

    Returns:
        The crops, and a note for each folder that has names of another form, or files that are no
        images, which are left out.

    Raises:
        UserError: a folder has no image with such a name, or one without it where `strict`.
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


def crops_manifest(
    location: Location, crops: Sequence[Crop], layout: str, notes: Sequence[str], *, strict: bool
) -> Manifest:
    """The manifest of these crops, with the attributes of an annotation file where there is one.

    Where everybody in val is in train too, val is left out: it cannot say how well a network tells
    people whom it has not seen.

    Raises:
        UserError: two people are one number, or the annotation file is wrong, or does not fit the
            train people where `strict`.
    """
    crops, known = _without_known_validation(crops)
    notes = (*notes, *known)
    people, cameras = ([_written(getattr(c, kind)) for c in crops] for kind in ("person", "camera"))
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
        pictured = [
            None if name is None or crop.split != "train" else person_of[name]
            for crop, name in zip(crops, people, strict=True)
        ]
        attributes, mismatches = attribute_columns(
            pictured, annotations, ANNOTATIONS, nontrivial_names(person_of), strict=strict
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


def _without_known_validation(crops: Sequence[Crop]) -> tuple[Sequence[Crop], list[str]]:
    learnt = {crop.person for crop in crops if crop.split == "train"}
    validation = {crop.person for crop in crops if crop.split == "val"}
    if not validation or not validation <= learnt:
        return crops, []
    kept = [crop for crop in crops if crop.split != "val"]
    return kept, [
        f"validation images, all of people in train, left out of training and validation: "
        f"{len(crops) - len(kept)}"
    ]


def _written(name: str | int | None) -> str | None:
    return None if name is None else str(name)
