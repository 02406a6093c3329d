"""The course layout: a train folder with names, and test and query images that say nothing."""

from collections.abc import Sequence

from reidray.data.image_folders import holds_images, list_images
from reidray.data.layouts.names import Crop, crops_manifest, read_named_crops
from reidray.data.manifest import Manifest
from reidray.data.storage import Location

NAME = "trento"
EXPECTED = "images in train/, with or without test/, queries/ and annotations_train.csv"

_ANONYMOUS = {"test": "gallery", "queries": "query"}


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Whether the folder looks like this layout."""
    if "queries/" in names:
        return True
    folder = next((name for name in ("train/", "test/") if name in names), None)
    return folder is not None and holds_images(location.join(folder))


def read(location: Location, *, strict: bool) -> Manifest:
    """The manifest of a folder of this layout.

    Person and camera are null in test and queries.
    """
    crops, notes = read_named_crops(location, {"train": "train"}, strict=strict)
    for folder, split in _ANONYMOUS.items():
        if location.join(folder).is_folder():
            crops += [Crop(path, split) for path in list_images(location, folder)]
    return crops_manifest(location, crops, NAME, notes, strict=strict)
