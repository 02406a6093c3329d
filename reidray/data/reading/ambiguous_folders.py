"""Refuse folders that may be people or something else, with a message that names both readings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from reidray.data.reading.folder_names import (
    is_no_person,
    is_split_name,
    is_tracklet,
    may_be_short_camera,
    parse_camera_folder,
    stem,
)
from reidray.errors import UserError
from reidray.storage.location import Location

_NUMBERED = re.compile(r"(?:person_)?0*(?P<person>[0-9]+)(?:_c[0-9]|(?<=person_[0-9]{4})$)")
_DATE = re.compile(r"[0-9]{4}[-_][0-9]{2}[-_][0-9]{2}")
_REPEATED = 1.5  # images per person in a folder whose file names contain people


@dataclass(frozen=True)
class FolderImage:
    """Hold an image and the folders that it lies in.

    Attributes:
        path: the path relative to the root.
        split: `train`, `val`, `query` or `gallery`.
        person: the name of the person's folder.
        below: the names of the folders within the person's folder.
    """

    path: str
    split: str
    person: str
    below: tuple[str, ...]


def check_people(location: Location, images: Sequence[FolderImage], *, chosen: bool) -> None:
    """Check that the folders of some images are people, and cannot be anything else.

    Args:
        location: the root, for the message of an error.
        images: the images with their folders.
        chosen: whether the user named the layout, which selects one of the readings.

    Raises:
        UserError: a folder has the name of a split, a camera or a kind of file; or another reading
            is as good, and the user has not named the layout.
    """
    people = sorted({image.person for image in images})
    strange = [person for person in people if is_no_person(person)]
    if strange:
        raise UserError(
            f"{location.uri}: {strange[0]}/ has the name of a split, a camera or a kind of file "
            f"and is no person ({len(strange)} such folders beside {len(people) - len(strange)} "
            "others); put only people's folders side by side, or list the images in a manifest "
            "with the columns path, split and person"
        )
    wrapped = next((i for i in images if i.below and is_split_name(i.below[0])), None)
    if wrapped is not None:
        folder, split = wrapped.person, wrapped.below[0]
        raise UserError(
            f"{location.uri}: {folder}/{split}/ has the name of a split, so that {folder}/ seems "
            f"to be a data set and no person: give `data={location.join(folder).uri}`, or rename "
            f"{split}/"
        )
    if chosen:
        return
    if all(map(may_be_short_camera, people)):
        raise UserError(
            f"{location.uri}: {people[0]}/ may be a camera or a person: for a person use "
            "`layout=folders`; for a camera name it cam1/ and so on"
        )
    _check_lone_person(location, images, people)
    for split in sorted({image.split for image in images}):
        _check_levels(location, [image for image in images if image.split == split])
    _check_file_names(location, images, len(people))


def _check_lone_person(
    location: Location, images: Sequence[FolderImage], people: Sequence[str]
) -> None:
    """Refuse a single folder of cameras: it may be one person, or hold the cameras of many."""
    if len(people) > 1 or any(not i.below or _first_unclear(i.below) for i in images):
        return
    first = min(images, key=lambda image: image.below)
    raise _ambiguous(location, first, first.below[0])


def _check_levels(location: Location, images: Sequence[FolderImage]) -> None:
    """Refuse folders within the people's folders of a split that may themselves be people."""
    people = {image.person for image in images}
    lower = {(i.person, name) for i in images if (name := _first_unclear(i.below)) is not None}
    names = {name for _, name in lower}
    if not names or 2 * sum(bool(image.below) for image in images) < len(images):
        return
    tracklets = all(map(is_tracklet, names)) and not all(map(_DATE.fullmatch, people))
    repeated = len(names) < len(lower) or any(name.isdecimal() for name in names)
    if tracklets and len(people) > 1 and (2 * len(names) <= len(people) or not repeated):
        return
    person, name = min(lower)
    first = next(i for i in images if i.person == person and _first_unclear(i.below) == name)
    raise _ambiguous(location, first, name)


def _ambiguous(location: Location, image: FolderImage, name: str) -> UserError:
    """Return the error about a folder that may be a person, or hold the folders of people.

    Args:
        location: the root.
        image: an image in the folder.
        name: the folder in it that may be a person.
    """
    person = image.person
    upper = location.join("/".join(image.path.split("/")[: -1 - len(image.below)])).uri
    return UserError(
        f"{location.uri}: {name}/ in {person}/ may be a camera or tracklet of person {person!r}, "
        f"or {person}/ may hold other people: choose the first by `layout=folders`, the second by "
        f"`data={upper}` or by moving the people's folders up"
    )


def _first_unclear(below: Sequence[str]) -> str | None:
    """Return the first folder below a person that is neither a camera nor a kind of file."""
    for name in below:
        if parse_camera_folder(name, below_person=True) is None and not is_no_person(name):
            return name
    return None


def _check_file_names(location: Location, images: Sequence[FolderImage], people: int) -> None:
    """Refuse folders that hold several people according to the file names of their images."""
    named = sorted(
        (image.person, found["person"])
        for image in images
        if (found := _NUMBERED.match(stem(image.path)))
    )
    if 2 * len(named) < len(images):
        return
    pairs = [pair for pair, _ in groupby(named)]
    folder = next((a[0] for a, b in pairwise(pairs) if a[0] == b[0]), None)
    if folder is not None and len(named) >= _REPEATED * len(pairs):
        raise UserError(
            f"{location.uri}: {folder}/ may be one person of {people}, or hold several, as file "
            "names such as 0002_c1 in it suggest: choose the first by `layout=folders`; for the "
            "second name the folders train/, query/ and gallery/"
        )
