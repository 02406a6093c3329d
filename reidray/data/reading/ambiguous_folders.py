"""Refuse folders that may be people and may be something else, and say what both readings are."""

import re
from collections.abc import Sequence
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
_REPEATED = 1.5  # images per person of a folder whose file names tell people

Placed = tuple[str, str, str, tuple[str, ...]]
"""The path of an image, its split, its person's folder, and the folders in that one."""


def check_people(location: Location, images: Sequence[Placed], *, chosen: bool) -> None:
    """Refuse folders that are no people, or may be none.

    Args:
        location: the root, for the message.
        images: with the folders they lie in.
        chosen: the user named the layout, and thereby one of the readings.

    Raises:
        UserError: a folder has the name of a split, a camera or a kind of file; or another reading
            is as good, and the user has not chosen.
    """
    people = sorted({person for _, _, person, _ in images})
    strange = [person for person in people if is_no_person(person)]
    if strange:
        raise UserError(
            f"{location.uri}: {strange[0]}/ has the name of a split, a camera or a kind of file "
            f"and is no person ({len(strange)} such folders beside {len(people) - len(strange)} "
            "others); put only people's folders side by side, or list the images in a manifest "
            "with the columns path, split and person"
        )
    wrapped = next(
        ((p, below[0]) for _, _, p, below in images if below and is_split_name(below[0])), None
    )
    if wrapped is not None:
        raise UserError(
            f"{location.uri}: {wrapped[0]}/{wrapped[1]}/ has the name of a split, so that "
            f"{wrapped[0]}/ seems to be a data set and no person: give --data "
            f"{location.join(wrapped[0]).uri}, or rename {wrapped[1]}/"
        )
    if chosen:
        return
    if all(map(may_be_short_camera, people)):
        raise UserError(
            f"{location.uri}: {people[0]}/ may be a camera or a person: choose the second by "
            "--layout folders; for the first name it cam1/ and so on"
        )
    _check_lone_person(location, images, people)
    for split in sorted({split for _, split, _, _ in images}):
        _check_levels(location, [image for image in images if image[1] == split])
    _check_file_names(location, images, len(people))


def _check_lone_person(location: Location, images: Sequence[Placed], people: Sequence[str]) -> None:
    """Refuse a folder of cameras that is one person, or holds the cameras of many."""
    if len(people) > 1 or any(not below or _first_unclear(below) for _, _, _, below in images):
        return
    first = min(images, key=lambda image: image[3])
    raise _doubt(location, first, first[3][0])


def _check_levels(location: Location, images: Sequence[Placed]) -> None:
    """Refuse folders in the people's folders of a split that may themselves be people."""
    people = {person for _, _, person, _ in images}
    lower = {(p, name) for _, _, p, below in images if (name := _first_unclear(below)) is not None}
    names = {name for _, name in lower}
    if not names or 2 * sum(bool(below) for _, _, _, below in images) < len(images):
        return
    tracklets = all(map(is_tracklet, names)) and not all(map(_DATE.fullmatch, people))
    repeated = len(names) < len(lower) or any(name.isdecimal() for name in names)
    if tracklets and len(people) > 1 and (2 * len(names) <= len(people) or not repeated):
        return
    person, name = min(lower)
    first = next(i for i in images if i[2] == person and _first_unclear(i[3]) == name)
    raise _doubt(location, first, name)


def _doubt(location: Location, image: Placed, name: str) -> UserError:
    """Return the error of a folder that may be a person, or hold the folders of people.

    Args:
        location: the root.
        image: one in the folder.
        name: the folder in it that may be a person.
    """
    path, _, person, below = image
    upper = "/".join(path.split("/")[: -1 - len(below)])
    return UserError(
        f"{location.uri}: {name}/ in {person}/ may be a camera or tracklet of person {person!r}, "
        f"or {person}/ may hold other people: choose the first by --layout folders, the second by "
        f"--data {location.join(upper).uri} or by moving the people's folders up"
    )


def _first_unclear(below: Sequence[str]) -> str | None:
    """Return the first folder in a person's that is neither a camera nor a kind of file."""
    for name in below:
        if parse_camera_folder(name, below_person=True) is None and not is_no_person(name):
            return name
    return None


def _check_file_names(location: Location, images: Sequence[Placed], people: int) -> None:
    """Refuse folders of many people, going by what the names of the images tell."""
    told = sorted(
        (folder, found["person"])
        for path, _, folder, _ in images
        if (found := _NUMBERED.match(stem(path)))
    )
    if 2 * len(told) < len(images):
        return
    pairs = [pair for pair, _ in groupby(told)]
    folder = next((a[0] for a, b in pairwise(pairs) if a[0] == b[0]), None)
    if folder is not None and len(told) >= _REPEATED * len(pairs):
        raise UserError(
            f"{location.uri}: {folder}/ may be one person of {people}, or hold several, as its "
            "file names say, such as 0002_c1: choose the first by --layout folders; for the "
            "second name the folders train/, query/ and gallery/"
        )
