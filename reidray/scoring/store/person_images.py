"""Find the images of a person in a store, by file names and folders."""

import posixpath
from collections.abc import Sequence
from unicodedata import normalize

from reidray.data.ids import parse_id_number
from reidray.data.reading.file_names import parse_crop_name
from reidray.data.reading.folder_names import is_split_name, parse_camera_folder
from reidray.errors import UserError

NOT_A_PERSON = {"distractors": 0, "junk": -1}
"""Person ids of images that show no particular person, by the word that stands for them."""


def find_images_of(person: str, folders: Sequence[str], paths: Sequence[str]) -> list[bool]:
    """Return which of N images show a person.

    An image shows a person if its file name begins with the number or the name of the person, or
    if it lies in a folder with that name. The folder may lie in folders of splits and cameras.
    Below any other folder it may be a camera or a day: then `person` has the folders above it too,
    as `people/2`, or is a whole address. `*` matches any one folder. The Unicode form of names (NFC
    or NFD) does not matter.

    Args:
        person: a number, a name, a folder, or one of `NOT_A_PERSON`.
        folders: N scored folders.
        paths: N paths of images, relative to the folders.

    Raises:
        UserError: a folder with this name may be that of the person, or another one.
    """
    wanted = normalize("NFC", person.rstrip("/"))
    shows = _is_below if "/" in wanted else _shows
    return [
        shows(wanted, normalize("NFC", folder), normalize("NFC", path))
        for folder, path in zip(folders, paths, strict=True)
    ]


def _is_below(wanted_folder: str, folder: str, path: str) -> bool:
    """Return whether an image lies below a folder, which has the folders above it in its name."""
    wanted = wanted_folder.split("/")
    return any(
        len(names) > len(wanted)
        and all(
            name == "*" or _are_same(found, name)
            for found, name in zip(names, wanted, strict=False)
        )
        for names in (path.split("/"), posixpath.join(folder, path).split("/"))
    )


def _shows(person: str, folder: str, path: str) -> bool:
    """Return whether the file name or a folder of an image has the name of a person.

    Raises:
        UserError: the folder may be something else.
    """
    known = parse_crop_name(path)
    if known is not None and _are_same(known.person, person):
        return True
    *parents, _ = path.split("/")
    if person in NOT_A_PERSON:
        return person in parents
    found = next((at for at, name in enumerate(parents) if _are_same(name, person)), None)
    if found is None:
        if _are_same(posixpath.basename(folder.rstrip("/")), person):
            raise UserError(
                f"person {person!r}: the scored folder {folder} is called so, and may hold other "
                f"people: give `person={folder.rstrip('/')}` if all of it is the person's"
            )
        return False
    above = parents[:found]
    if all(is_split_name(name) or parse_camera_folder(name) is not None for name in above):
        return True
    shown, all_shown = "/".join(parents[: found + 1]), "/".join([*"*" * found, parents[found]])
    raise UserError(
        f"person {person!r}: the folder {shown}/ may be a person's, a camera's or a day's: "
        f"give `person={shown}` if it is the person's, or `person='{all_shown}'` for all like it"
    )


def _are_same(name: str, person: str) -> bool:
    number = NOT_A_PERSON.get(person, parse_id_number(person))
    return name == person or (number is not None and parse_id_number(name) == number)
