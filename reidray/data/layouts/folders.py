"""One folder per person, at the top or below one folder per split, with cameras or tracklets."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reidray.data.layouts.layout import ReadOptions
from reidray.data.manifest import Manifest
from reidray.data.reading.ambiguous_folders import check_people
from reidray.data.reading.crop_lists import Crop, crops_manifest
from reidray.data.reading.folder_names import (
    are_whole,
    folder_names,
    hold_images,
    is_no_person,
    parse_camera_folder,
    split_folders,
    stem,
)
from reidray.data.reading.image_folders import describe_skipped, find_images, holds_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "folders"
EXPECTED = (
    "one folder per person, with images or with folders of cameras or tracklets, at the top or in "
    "train/, val/, query/, gallery/ (or test/)"
)
BESIDE: frozenset[str] = frozenset()

_LOOKED_INTO = 10  # of perhaps thousands of folders, before the layout is recognised
_NO_FOLDERS = ("", ".", "..")  # parts of keys in an object store
_ALL = "train_all"  # what layumi's preparation calls train and val together
# 0001_c1s1_000451_03.jpg, 0001_C1_F0001_X13180.jpg, 0001C1T0001F001.jpg
_CAMERA = re.compile(r"(?:_[cC]|(?<=[0-9])C)(?P<id>[0-9]+)")


@dataclass(frozen=True)
class PlacedImage:
    """An image and the folders it lies in.

    Attributes:
        path: relative to the root.
        split: train, val, query or gallery.
        person: the folder of the person.
        below: the folders in that one.
    """

    path: str
    split: str
    person: str
    below: tuple[str, ...]


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    splits = splits_of(names)
    for split in [*splits, *([] if are_whole(splits) else [""])]:
        here = location.join(split) if split else location
        people = folder_names(here.list_children() if split else names)
        people = [folder for folder in people if not is_no_person(folder)]
        if hold_images(here, people, most=_LOOKED_INTO, tracklets=True):
            return True
    return False


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout.

    A folder's name is the person's number, or a name where one of them is no number (see
    `number_person_ids`). The camera is taken from a folder such as `cam1` in the person's, or from
    file names such as `0002_c1s1_000451`.

    Raises:
        UserError: an image lies in no person's folder, where `strict` or where all of a split do;
            or it is not clear which folders are people.
    """
    names = location.list_children()
    splits = splits_of(names)
    _check_splits(location, names, splits)
    placed: list[PlacedImage] = []
    outside: list[str] = []
    skipped: Counter[str] = Counter()
    for folder, split in (splits or {"": "train"}).items():
        found = find_images(location, folder)
        skipped.update(found.skipped)
        images = [_place(path, folder, split) for path in found.paths]
        placed += [image for image in images if image is not None]
        lost = [path for path, image in zip(found.paths, images, strict=True) if image is None]
        if len(lost) == len(images):
            raise UserError(
                f"{location.join(folder).uri if folder else location.uri}: its images lie in no "
                f"person's folder (the first is {lost[0]!r}); expected {EXPECTED}"
            )
        outside += lost
    check_people(
        location, [(i.path, i.split, i.person, i.below) for i in placed], chosen=options.chosen
    )
    notes = [describe_skipped(skipped)] if skipped else []
    if outside:
        notes.append(
            f"images outside a person's folder, left out: {len(outside)} "
            f"(the first is {outside[0]!r})"
        )
        if options.strict:
            raise UserError(f"{location.uri}: {notes[-1]}; expected {EXPECTED}")
    if _ALL in splits and split_folders(names).keys() - splits.keys():
        notes.append(f"{_ALL}/ is read for train: train/ and val/ hold the same images")
    return crops_manifest(location, _crops(placed), NAME, notes, strict=options.strict)


def splits_of(names: Sequence[str]) -> dict[str, str]:
    """Return folder to split; what layumi's preparation copies twice is taken once."""
    splits = split_folders(names)
    if f"{_ALL}/" not in names:
        return splits
    kept = {folder: split for folder, split in splits.items() if split not in ("train", "val")}
    return {_ALL: "train"} | kept


def _check_splits(location: Location, names: Sequence[str], splits: dict[str, str]) -> None:
    """Refuse a split's folder among folders that seem to be people."""
    if not splits or are_whole(splits):
        return
    people = [
        folder
        for folder in folder_names(names)
        if folder not in splits and not is_no_person(folder) and holds_images(location.join(folder))
    ]
    if people:
        split = next(iter(splits))
        raise UserError(
            f"{location.uri}: {split}/ has the name of a split, and beside it {people[0]}/ and "
            f"{len(people) - 1} others seem to be people: if {split}/ is a person too, rename it; "
            "if it is a split, put the people into train/"
        )


def _place(path: str, folder: str, split: str) -> PlacedImage | None:
    """Return where an image lies in the folder of a split; None where that is no person's."""
    *folders, _ = path.removeprefix(f"{folder}/" if folder else "").split("/")
    if not folders or folders[0] in _NO_FOLDERS:
        return None
    below = tuple(each for each in folders[1:] if each not in _NO_FOLDERS)
    return PlacedImage(path, split, folders[0], below)


def _crops(images: Sequence[PlacedImage]) -> list[Crop]:
    """Return the images with person and camera."""
    in_train = {image.person for image in images if image.split == "train"}
    everyone = {image.person for image in images}
    # Folders counted from 0: the first is a person as the others are, and no distractor.
    numbers = {int(person) for person in everyone if re.fullmatch("[0-9]{1,18}", person)}
    from_zero = (
        len(numbers) == len(everyone) > 1
        and numbers == set(range(len(numbers)))
        and any(int(person) == 0 for person in in_train)
    )
    return [
        Crop(
            image.path,
            image.split,
            f"person_{image.person}" if from_zero else image.person,
            _camera_of(image),
        )
        for image in images
    ]


def _camera_of(image: PlacedImage) -> str | None:
    for folder in image.below:
        if (camera := parse_camera_folder(folder, below_person=True)) is not None:
            return camera
    found = _CAMERA.search(stem(image.path))
    return found["id"] if found else None
