"""Read the layout of the Trento course: train names people, test and queries do not."""

import sys
from collections import Counter
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import Crop, build_crop_manifest, read_named_crops
from reidray.data.reading.folder_names import folder_names, is_no_person, is_split_name
from reidray.data.reading.image_folders import describe_skipped, find_images, holds_images
from reidray.storage.location import Location

NAME = "trento"
EXPECTED = "images in train/, with or without test/, queries/ and annotations_train.csv"
BESIDE: frozenset[str] = frozenset()

_ANONYMOUS = {"test": "gallery", "queries": "query"}


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    if "queries/" in names:
        return True
    if "test/" in names and any(
        map(is_split_name, folder_names(location.join("test").list_children()))
    ):
        return False
    alone = all(map(is_no_person, folder_names(names)))
    folder = next((n for n in ("train/", "test/") if n in names and (alone or n == "train/")), None)
    return folder is not None and holds_images(location.join(folder))


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout.

    Person and camera are null in test and queries.
    """
    crops, notes = read_named_crops(location, {"train": "train"}, strict=options.strict)
    skipped: Counter[str] = Counter()
    for folder, split in _ANONYMOUS.items():
        if location.join(folder).is_dir():
            found = find_images(location, folder)
            crops += [Crop(path, split) for path in found.paths]
            skipped.update(found.skipped)
    if skipped:
        notes.append(f"test, queries: {describe_skipped(skipped)}")
    return build_crop_manifest(location, crops, NAME, notes, strict=options.strict)


register_layout(sys.modules[__name__], order=70, has_marks=False)
