"""Read one folder per split, or a single folder, of images that name person and camera."""

import sys
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import Crop, build_crop_manifest, read_named_crops
from reidray.data.reading.file_names import parse_crop_name
from reidray.data.reading.folder_names import (
    are_whole,
    folder_names,
    split_folders,
)
from reidray.data.reading.image_folders import find_images, holds_images
from reidray.storage.location import Location

NAME = "flat_splits"
EXPECTED = (
    "images named as 0002_c1s1_000451_03.jpg in train/, val/, query/ and gallery/ (or test/), "
    "or all in one folder"
)
BESIDE: frozenset[str] = frozenset()


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout.

    `train/` and `test/` alone are the layout trento, unless file names in `test/` name people.
    """
    splits = split_folders(names)
    if not splits:
        return not folder_names(names) and _name_people(names)
    if (
        "queries" in splits
        or not are_whole(splits)
        or not all(holds_images(location.join(each)) for each in splits)
    ):
        return False
    test = next((each for each in splits if each.lower() in ("test", "testing")), None)
    if test is not None and set(splits.values()) == {"train", "gallery"}:
        return _name_people(location.join(test).list_children())
    return set(splits.values()) != {"train"}


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout.

    If no file name in the query or gallery folder names a person, all its people are unknown.

    Raises:
        UserError: no file name in another folder names a person.
    """
    splits = split_folders(location.list_children()) or {"": "train"}
    named, crops, notes = dict(splits), list[Crop](), list[str]()
    for folder, split in splits.items():
        if split not in ("query", "gallery"):
            continue
        found = find_images(location, folder)
        if not any(parse_crop_name(path) for path in found.paths):
            crops += [Crop(path, split) for path in found.paths]
            notes.append(f"{folder}/: no file name names a person, so all its people are unknown")
            del named[folder]
    more, more_notes = read_named_crops(location, named, strict=options.strict)
    return build_crop_manifest(
        location, [*crops, *more], NAME, [*notes, *more_notes], strict=options.strict
    )


def _name_people(names: Sequence[str]) -> bool:
    return any(not name.endswith("/") and parse_crop_name(name) for name in names)


register_layout(sys.modules[__name__], order=60, has_marks=False)
