"""Refuse folders that may be people and may be something else, and say what both readings are."""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

from reidray.data.layouts.structure import (
    camera_of_folder,
    is_no_person,
    is_split_like,
    is_tracklet,
    may_be_short_camera,
    stem,
)
from reidray.data.storage import Location
from reidray.errors import UserError

_NUMBERED = re.compile(r"0*(?P<person>[0-9]+)_c[0-9]")
_REPEATED = 1.5  # images per person of a folder whose file names tell people

Placed = tuple[str, str, tuple[str, ...]]
"""The path of an image, its person's folder, and the folders in that one."""


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
    people = sorted({person for _, person, _ in images})
    strange = [person for person in people if is_no_person(person)]
    if strange:
        raise UserError(
            f"{location.uri}: {strange[0]}/ has the name of a split, a camera or a kind of file "
            f"and is no person ({len(strange)} such folders beside {len(people) - len(strange)} "
            "others); put only people's folders side by side, or list the images in a manifest "
            "with the columns path, split and person"
        )
    wrapped = next(
        ((p, below[0]) for _, p, below in images if below and is_split_like(below[0])), None
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
    _check_levels(location, images, people)
    _check_file_names(location, images, len(people))


def _check_levels(location: Location, images: Sequence[Placed], people: Sequence[str]) -> None:
    """Refuse folders in people's folders that may themselves be people."""
    lower = {(person, below[0]) for _, person, below in images if below}
    names = {name for _, name in lower if camera_of_folder(name, below_person=True) is None}
    if not names or 2 * sum(bool(below) for _, _, below in images) < len(images):
        return
    tracklets = all(map(is_tracklet, names))
    shared = len(names) < len({pair for pair in lower if pair[1] in names})
    few = 2 * len(names) <= len(people) or not shared
    if tracklets and few and len(people) > 1:
        return
    person, name = min(pair for pair in lower if pair[1] in names)
    raise UserError(
        f"{location.uri}: {person}/{name}/ may be a tracklet of person {person!r}, or person "
        f"{name!r}: choose the first by --layout folders, the second by --data "
        f"{location.join(person).uri} or by moving the people's folders up"
    )


def _check_file_names(location: Location, images: Sequence[Placed], people: int) -> None:
    """Refuse folders of many people, going by what the names of the images tell."""
    told = sorted(
        (folder, found["person"])
        for path, folder, _ in images
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
