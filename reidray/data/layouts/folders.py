"""Read one folder per person, at the top or below one folder per split."""

import re
import sys
from collections import Counter
from collections.abc import Sequence

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.ambiguous_folders import FolderImage, check_people
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
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

_LOOKED_INTO = 10  # folders to search before the layout is recognised, of perhaps thousands
_NO_FOLDERS = ("", ".", "..")  # parts that keys of an object store may have
_ALL = "train_all"  # train and val together, as the script of layumi's baseline prepares them
# 0001_c1s1_000451_03.jpg, 0001_C1_F0001_X13180.jpg, 0001C1T0001F001.jpg
_MSMT17_NAME = re.compile(r"[0-9]{4}_[0-9]{3}_[0-9]{2}_[0-9]{4}(morning|noon|afternoon)_[0-9_]+")
_CAMERA = re.compile(r"(?:_[cC]|(?<=[0-9])C)(?P<id>[0-9]+)")


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

    The name of a folder is the id of the person (see `number_person_ids`). The camera comes from a
    folder such as `cam1` within it, or from a file name such as `0002_c1s1_000451.jpg`.

    Raises:
        UserError: no image of a split lies in a person's folder; or one does not, and
            `options.strict` is on; or it is not clear which folders are people.
    """
    names = location.list_children()
    splits = splits_of(names)
    _check_splits(location, names, splits)
    placed: list[FolderImage] = []
    outside: list[str] = []  # images in no person's folder
    skipped: Counter[str] = Counter()
    for folder, split in (splits or {"": "train"}).items():
        found = find_images(location, folder)
        skipped.update(found.skipped)
        images = [_place(path, folder, split) for path in found.paths]
        placed += [image for image in images if image is not None]
        lost = [path for path, image in zip(found.paths, images, strict=True) if image is None]
        if len(lost) == len(images):
            where = location.join(folder).uri if folder else location.uri
            raise UserError(
                f"{where}: its images lie in no person's folder (the first is {lost[0]!r}); "
                f"expected {EXPECTED}"
            )
        outside += lost
    _check_msmt17(location, placed)
    check_people(location, placed, chosen=options.chosen)
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
    return build_crop_manifest(location, _crops(placed), NAME, notes, strict=options.strict)


def splits_of(names: Sequence[str]) -> dict[str, str]:
    """Return the split of each folder; `train_all` takes the place of `train` and `val`."""
    splits = split_folders(names)
    if f"{_ALL}/" not in names:
        return splits
    kept = {folder: split for folder, split in splits.items() if split not in ("train", "val")}
    return {_ALL: "train"} | kept


def _check_splits(location: Location, names: Sequence[str], splits: dict[str, str]) -> None:
    """Refuse the folder of a split among folders that seem to be people."""
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


def _check_msmt17(location: Location, images: Sequence[FolderImage]) -> None:
    """Refuse MSMT17 without its lists, where `0000` of train and of test are different people."""
    named = [image for image in images if _MSMT17_NAME.fullmatch(stem(image.path))]
    train = {image.person for image in named if image.split == "train"}
    other = {image.person for image in named if image.split != "train"}
    if train & other:
        raise UserError(
            f"{location.uri}: its images have the names of MSMT17, in which {min(train & other)}/ "
            "of train and of test are different people: put its lists list_train.txt, "
            "list_query.txt and list_gallery.txt beside the folders"
        )


def _place(path: str, folder: str, split: str) -> FolderImage | None:
    """Return the folders of an image of a split; None if it lies in no person's folder."""
    *folders, _ = path.removeprefix(f"{folder}/" if folder else "").split("/")
    if not folders or folders[0] in _NO_FOLDERS:
        return None
    below = tuple(each for each in folders[1:] if each not in _NO_FOLDERS)
    return FolderImage(path, split, folders[0], below)


def _crops(images: Sequence[FolderImage]) -> list[Crop]:
    """Return the crops of images, with person and camera."""
    in_train = {image.person for image in images if image.split == "train"}
    everyone = {image.person for image in images}
    # If folders are numbered from 0, folder 0 is a person and not the distractors.
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


def _camera_of(image: FolderImage) -> str | None:
    for folder in image.below:
        if (camera := parse_camera_folder(folder, below_person=True)) is not None:
            return camera
    found = _CAMERA.search(stem(image.path))
    return found["id"] if found else None


register_layout(sys.modules[__name__], order=90, has_marks=False)
