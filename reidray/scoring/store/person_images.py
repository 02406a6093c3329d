"""Find the images of a person in a store by file names and folders."""

import posixpath
from collections.abc import Sequence

from reidray.data.ids import parse_id_number
from reidray.data.reading.file_names import parse_crop_name
from reidray.data.reading.folder_names import is_split_name, parse_camera_folder
from reidray.errors import UserError

NOBODY = {"distractors": 0, "junk": -1}
"""Words for the numbers that name nobody in particular."""


def find_images_of(person: str, folders: Sequence[str], paths: Sequence[str]) -> list[bool]:
    """Tell which of N images show a person.

    An image shows a person if its file name begins with the person's number or name, or if it lies
    in a folder that is called so. That folder may lie in folders of splits and cameras. Below any
    other folder it may be a camera or a day, so that it has to be given with the folders above it,
    as `people/2`, or as a whole address; `*` stands for any one folder.

    Args:
        person: a number, a name, a folder, or one of `NOBODY`.
        folders: N scored folders.
        paths: N, of the images relative to these.

    Raises:
        UserError: a folder of this name may be a person's and may be something else.
    """
    asked = person.rstrip("/")
    shows = _lies_in_given if "/" in asked else _shows
    return [shows(asked, folder, path) for folder, path in zip(folders, paths, strict=True)]


def _lies_in_given(given: str, folder: str, path: str) -> bool:
    """Tell whether an image lies in a folder that is given with the folders above it."""
    wanted = given.split("/")
    return any(
        len(names) > len(wanted)
        and all(
            name == "*" or _are_same(found, name)
            for found, name in zip(names, wanted, strict=False)
        )
        for names in (path.split("/"), posixpath.join(folder, path).split("/"))
    )


def _shows(person: str, folder: str, path: str) -> bool:
    """Tell whether an image's file name or folder is called as a person is.

    Raises:
        UserError: the folder may be something else than the person's.
    """
    known = parse_crop_name(path)
    if known is not None and _are_same(known.person, person):
        return True
    *parents, _ = path.split("/")
    if person in NOBODY:
        return person in parents
    found = next((at for at, name in enumerate(parents) if _are_same(name, person)), None)
    if found is None:
        if _are_same(posixpath.basename(folder.rstrip("/")), person):
            raise UserError(
                f"person {person!r}: the scored folder {folder} is called so, and may hold other "
                f"people: give --person {folder.rstrip('/')} if all of it is the person's"
            )
        return False
    above = parents[:found]
    if all(is_split_name(name) or parse_camera_folder(name) is not None for name in above):
        return True
    shown, all_shown = "/".join(parents[: found + 1]), "/".join([*"*" * found, parents[found]])
    raise UserError(
        f"person {person!r}: the folder {shown}/ may be a person's, a camera's or a day's: "
        f"give --person {shown} if it is the person's, or --person '{all_shown}' for all like it"
    )


def _are_same(name: str, person: str) -> bool:
    number = NOBODY.get(person, parse_id_number(person))
    return name == person or (number is not None and parse_id_number(name) == number)
