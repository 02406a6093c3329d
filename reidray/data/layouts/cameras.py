"""One folder per camera, with a folder or an image for each person in it: PRID 2011, VIPeR."""

import re
from collections import Counter
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import Crop, crops_manifest
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
    """Return the manifest of a folder of this layout, all of it in train.

    A name means the same person before all cameras. In PRID 2011 (`cam_a/`, `cam_b/` and
    `person_0001`) this holds up to 200 only: those above are others before each camera.

    Raises:
        UserError: an image tells no person, where `strict` or where all do.
    """
    cameras = _camera_folders(location.list_children())
    if not cameras:
        raise UserError(f"{location.uri}: holds no folders of cameras; expected {EXPECTED}")
    crops: list[Crop] = []
    unknown: list[str] = []
    skipped: Counter[str] = Counter()
    told_apart = False
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
                told_apart = True
            crops.append(Crop(path, "train", person, camera))
    notes = [describe_skipped(skipped)] if skipped else []
    if told_apart:
        notes.append(
            "cam_a/ and cam_b/ as PRID 2011: person_0001 to person_0200 are in both, and those "
            "above are others before each camera"
        )
    if unknown:
        notes.append(
            f"images that tell no person, left out: {len(unknown)} (the first is {unknown[0]!r})"
        )
        if options.strict or not crops:
            raise UserError(f"{location.uri}: {notes[-1]}; expected {EXPECTED}")
    return crops_manifest(location, crops, NAME, notes, strict=options.strict)


def _camera_folders(names: Sequence[str]) -> dict[str, str]:
    """Return folder to camera of the folders that have a camera's name."""
    cameras = {folder: parse_camera_folder(folder) for folder in folder_names(names)}
    return {folder: camera for folder, camera in cameras.items() if camera is not None}


def _person_of(path: str) -> str | None:
    """Return who is on an image, by its folder in a camera's folder or by its name.

    A number in a file's name becomes a name, since 0 would mean a distractor.
    """
    _, *folders, _ = path.split("/")
    if folders:
        return folders[0] or None
    found = _PERSON_FILE.match(stem(path))
    return f"person_{found['id']}" if found else None
