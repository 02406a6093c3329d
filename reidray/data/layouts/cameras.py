"""Read one folder per camera, with a folder or an image of each person: PRID 2011, VIPeR."""

import re
import sys
from collections import Counter
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
from reidray.data.reading.folder_names import (
    folder_names,
    hold_images,
    parse_camera_folder,
    stem,
)
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "cameras"
EXPECTED = (
    "cam_a/, cam_b/, ... with a folder per person, or images named as person_0001.png or 000_45.bmp"
)
BESIDE: frozenset[str] = frozenset()

_PERSON_FILE = re.compile(r"(?:person|id|pid)?[_-]?(?P<id>[0-9]+)(?![0-9])", re.IGNORECASE)
_PRID_PERSON = re.compile(r"person_(?P<id>[0-9]{4})")
_PRID_SHARED = 200


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    cameras = _camera_folders(names)
    return len(cameras) > 1 and hold_images(location, list(cameras), most=3)


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout, with all images in train.

    The same name stands for the same person in the folders of all cameras. In PRID 2011 (`cam_a/`,
    `cam_b/` and `person_0001`) this holds for persons 1 to 200 only: higher numbers are different
    people in the two folders.

    Raises:
        UserError: no image names its person; or one does not, and `options.strict` is on.
    """
    cameras = _camera_folders(location.list_children())
    if not cameras:
        raise UserError(f"{location.uri}: holds no folders of cameras; expected {EXPECTED}")
    crops: list[Crop] = []
    unknown: list[str] = []
    skipped: Counter[str] = Counter()
    has_unshared = False  # people of PRID 2011 who are in one folder only
    is_prid = set(cameras) == {"cam_a", "cam_b"}
    for folder, camera in cameras.items():
        found = find_images(location, folder)
        skipped.update(found.skipped)
        for path in found.paths:
            person = _person_of(path)
            if person is None:
                unknown.append(path)
                continue
            number = _PRID_PERSON.fullmatch(person) if is_prid else None
            if number and int(number["id"]) > _PRID_SHARED:
                person += f"_{folder}"
                has_unshared = True
            crops.append(Crop(path, "train", person, camera))
    notes = [describe_skipped(skipped)] if skipped else []
    if has_unshared:
        notes.append(
            "cam_a/ and cam_b/ as PRID 2011: person_0001 to person_0200 are in both, and higher "
            "numbers are different people in each"
        )
    if unknown:
        notes.append(
            f"images that name no person, left out: {len(unknown)} (the first is {unknown[0]!r})"
        )
        if options.strict or not crops:
            raise UserError(f"{location.uri}: {notes[-1]}; expected {EXPECTED}")
    return build_crop_manifest(location, crops, NAME, notes, strict=options.strict)


def _camera_folders(names: Sequence[str]) -> dict[str, str]:
    """Return the camera of each folder that has the name of one."""
    cameras = {folder: parse_camera_folder(folder) for folder in folder_names(names)}
    return {folder: camera for folder, camera in cameras.items() if camera is not None}


def _person_of(path: str) -> str | None:
    """Return the person of an image, from the folder below the camera or from the file name.

    A number in a file name becomes a name such as `person_0`, as 0 would mean a distractor.
    """
    _, *folders, _ = path.split("/")
    if folders:
        return folders[0] or None
    found = _PERSON_FILE.match(stem(path))
    return f"person_{found['id']}" if found else None


register_layout(sys.modules[__name__], order=80, has_marks=False)
