"""Read data sets of animals as the library wildlife-datasets describes them, in metadata.csv."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from reidray.data.ids import MISSING_VALUES, parse_id_number
from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.manifest_builder import keep_existing
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "wildlife"
EXPECTED = "metadata.csv with the columns identity and path (and split: train, test, ...)"

_FILE = "metadata.csv"
BESIDE = frozenset({_FILE})
_HEAD_BYTES = 4096
_SPLITS = {
    "": "train",
    "train": "train",
    "val": "val",
    "validation": "val",
    "query": "query",
    "gallery": "gallery",
    "database": "gallery",
    "test": "test",
}
"""The split of each value of the column; `test` is divided into query and gallery."""

_UNKNOWN = MISSING_VALUES | {"unknown"}


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    if _FILE not in names:
        return False
    head = location.read_head(_FILE, _HEAD_BYTES).decode("utf-8-sig", errors="replace")
    return {"identity", "path"} <= set(next(csv.reader(io.StringIO(head)), []))


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout. Count listed images that do not exist.

    The identity is a name, such as `lynx_23`; `unknown` or an empty cell means nobody known. Names
    that are no numbers are sorted and numbered from 1 (see `number_person_ids`), and numbers are
    names where 0 or -1 is among them. Without a column `split` all images are in train. Of the test
    images of an identity that has several, the first is a query; the others are the gallery.
    Cameras are unknown.

    Raises:
        UserError: the file is no CSV, lacks a column, or has an unknown split.
    """
    text = location.read_bytes(_FILE).decode("utf-8-sig", errors="replace")
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise UserError(f"{_FILE}: is no CSV file ({error})") from None
    if not rows or not {"identity", "path"} <= rows[0].keys():
        raise UserError(f"{location.uri}: {_FILE} has no rows; expected {EXPECTED}")
    crops = [_read_row(row, number) for number, row in enumerate(rows, start=1)]
    if any(parse_id_number(str(crop.person)) in (0, -1) for crop in crops):
        crops = [
            crop if crop.person is None else crop._replace(person=f"identity_{crop.person}")
            for crop in crops
        ]
    images = Counter(crop.person for crop in crops if crop.split == "test")
    asked: set[str | int] = set()
    for number, crop in enumerate(crops):
        if crop.split != "test":
            continue
        is_query = crop.person is not None and images[crop.person] > 1 and crop.person not in asked
        if is_query and crop.person is not None:
            asked.add(crop.person)
        crops[number] = crop._replace(split="query" if is_query else "gallery")
    manifest = build_crop_manifest(location, crops, NAME, [], strict=options.strict)
    return keep_existing(manifest, list_images(location, ""), strict=options.strict)


def _read_row(row: Mapping[str, str | None], number: int) -> Crop:
    """Return the crop of a row.

    Raises:
        UserError: the row has no path, or a split that is not known.
    """
    path, identity = (row["path"] or "").strip(), (row["identity"] or "").strip()
    given = (row.get("split") or "").strip()
    split = _SPLITS.get(given.lower())
    if split is None:
        known = ", ".join(filter(None, _SPLITS))
        raise UserError(f"{_FILE}, row {number}: split is {given!r}, expected one of {known}")
    if not path:
        raise UserError(f"{_FILE}, row {number}: has no path")
    return Crop(path, split, None if identity in _UNKNOWN else identity)


register_layout(sys.modules[__name__], order=37)
