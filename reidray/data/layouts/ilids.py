"""Read i-LIDS (Zheng et al. 2009): images named by person and number in one folder."""

import re
import sys
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
from reidray.data.reading.folder_names import stem
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "ilids"
EXPECTED = "Persons/ with images such as 0001002.jpg, image 2 of person 1"
BESIDE: frozenset[str] = frozenset()

_FOLDER = "Persons"
_IMAGE = re.compile(r"(?P<person>[0-9]{4})[0-9]{3}")


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    if f"{_FOLDER}/" not in names:
        return False
    images = [name for name in location.join(_FOLDER).list_children() if not name.endswith("/")]
    return bool(images) and all(_IMAGE.fullmatch(stem(name)) for name in images[:10])


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout, with all images in train.

    The first four digits of a name are the person; cameras are unknown. Person 0 counts as a
    person.

    Raises:
        UserError: no name has seven digits; or one has not, and `options.strict` is on.
    """
    found = find_images(location, _FOLDER)
    crops = []
    unnamed = []
    for path in found.paths:
        name = _IMAGE.fullmatch(stem(path))
        if name is None:
            unnamed.append(path)
        else:
            crops.append(Crop(path, "train", int(name["person"])))
    if any(crop.person == 0 for crop in crops):
        crops = [crop._replace(person=f"person_{crop.person:04d}") for crop in crops]
    notes = [describe_skipped(found.skipped)] if found.skipped else []
    if unnamed:
        note = f"names without a person, left out: {len(unnamed)} (the first is {unnamed[0]!r})"
        notes.append(note)
        if options.strict or not crops:
            raise UserError(f"{location.uri}: {note}; expected {EXPECTED}")
    return build_crop_manifest(location, crops, NAME, notes, strict=options.strict)


register_layout(sys.modules[__name__], order=36)
