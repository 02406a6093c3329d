"""Market-1501 as Zheng et al. (2015) gave it out; junk is person -1, a distractor person 0."""

from collections.abc import Sequence

from reidray.data.layouts.names import crops_manifest, read_named_crops
from reidray.data.manifest import Manifest
from reidray.data.storage import Location

NAME = "market1501"
EXPECTED = "bounding_box_train/, bounding_box_test/, query/"

_FOLDERS = {"bounding_box_train": "train", "bounding_box_test": "gallery", "query": "query"}


def recognises(_location: Location, names: Sequence[str]) -> bool:
    """Whether the folder looks like this layout."""
    return "bounding_box_train/" in names or "bounding_box_test/" in names


def read(location: Location, *, strict: bool) -> Manifest:
    """The manifest of a folder of this layout, with `annotations_train.csv` where it has one."""
    crops, notes = read_named_crops(location, _FOLDERS, strict=strict)
    return crops_manifest(location, crops, NAME, notes, strict=strict)
