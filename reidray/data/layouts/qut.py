"""The Market-1501 subset of QUT's CAB420: Training, and one image per person to find and to ask."""

from collections.abc import Sequence

from reidray.data.layouts.names import crops_manifest, read_named_crops
from reidray.data.manifest import Manifest
from reidray.data.storage import Location

NAME = "qut"
EXPECTED = "Training/, Testing/Gallery/, Testing/Probe/"

_FOLDERS = {"Training": "train", "Testing/Gallery": "gallery", "Testing/Probe": "query"}


def recognises(_location: Location, names: Sequence[str]) -> bool:
    """Whether the folder looks like this layout."""
    return "Training/" in names or "Testing/" in names


def read(location: Location, *, strict: bool) -> Manifest:
    """The manifest of a folder of this layout."""
    crops, notes = read_named_crops(location, _FOLDERS, strict=strict)
    return crops_manifest(location, crops, NAME, notes, strict=strict)
