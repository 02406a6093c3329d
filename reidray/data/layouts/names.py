"""Crops whose file names say, as Market-1501's do, who is in them and which camera took them."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reidray.data.annotations import annotate_people, read_annotations
from reidray.data.attributes import PEDESTRIAN_SCHEMA
from reidray.data.image_folders import list_images
from reidray.data.manifest import Manifest, build_manifest
from reidray.data.storage import Location
from reidray.errors import UserError

ANNOTATIONS = "annotations_train.csv"

# 0002_c1s1_000451_03.jpg, -1_c1s1_000401_03.jpg, 0002_c1_016620005.jpg
_PERSON_CAMERA = re.compile(r"(-?\d+)_c(\d+)(?!\d)")
_CAMERA = re.compile(r"_c(\d+)(?!\d)")


class Crop(NamedTuple):
    """One image and what its place and name say of it; None where they do not say."""

    path: str
    split: str
    person: int | None = None
    camera: int | None = None


def person_and_camera_of(path: str) -> tuple[int, int] | None:
    """The person and camera that a name such as `0002_c1s1_000451_03.jpg` tells, if it does."""
    found = _PERSON_CAMERA.match(posixpath.basename(path))
    return (int(found[1]), int(found[2])) if found else None


def camera_of(path: str) -> int | None:
    """The camera that a file name such as `0002_c1s1_000451_03.jpg` speaks of, if it does."""
    found = _CAMERA.search(posixpath.basename(path))
    return int(found[1]) if found else None


def read_named_crops(
    location: Location, folders: Mapping[str, str], *, strict: bool
) -> tuple[list[Crop], list[str]]:
    """The crops of these folders, each with the person and camera of its name.

    Args:
        location: the root.
        folders: folder within the root to split; a folder that is not there is passed over.
        strict: a name of another form is an error, not a note.

    Returns:
        The crops, and a note for each folder that has names of another form, which are left out.

    Raises:
        UserError: a folder has no image with such a name, or one without it where `strict`.
    """
    crops: list[Crop] = []
    notes: list[str] = []
    for folder, split in folders.items():
        if not location.join(folder).is_folder():
            continue
        unnamed = []
        named = len(crops)
        for path in list_images(location, folder):
            if found := person_and_camera_of(path):
                crops.append(Crop(path, split, *found))
            else:
                unnamed.append(path)
        if unnamed:
            note = (
                f"{folder}: names without person and camera, left out: {len(unnamed)} "
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

    Raises:
        UserError: the annotation file is wrong, or does not fit the train people where `strict`.
    """
    columns: dict[str, object] = {
        name: [getattr(crop, name) for crop in crops] for name in Crop._fields
    }
    if not location.join(ANNOTATIONS).is_file():
        return build_manifest(location.uri, columns, layout=layout, notes=notes)
    annotations = read_annotations(location.read_bytes(ANNOTATIONS), ANNOTATIONS)
    people = [crop.person if crop.split == "train" else None for crop in crops]
    attributes, mismatches = annotate_people(people, annotations, ANNOTATIONS, strict=strict)
    return build_manifest(
        location.uri,
        columns | attributes,
        layout=layout,
        schema=PEDESTRIAN_SCHEMA,
        notes=(*notes, *mismatches),
    )
