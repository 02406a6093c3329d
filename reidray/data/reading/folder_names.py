"""Recognise splits, cameras, tracklets and other folders by their names."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from reidray.data.listing.file_kinds import is_junk_folder
from reidray.data.reading.image_folders import holds_images
from reidray.storage.location import Location

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "query": ("query", "queries", "probe"),
    "gallery": ("gallery", "test", "testing"),
}
"""Names of the folder of each split, in small letters; the first that exists is taken."""

_SPLIT = "train|training|trainval|val|valid|validation|test|testing|query|queries|probe|gallery"
_SPLIT_LIKE = re.compile(
    rf"(?:(?:bounding_box|bbox|images?|img|masks?|gt|multi|crops?)[_-]?)?(?:{_SPLIT}|eval)"
    r"(?:[_-]?(?:all|set|split|v?[0-9]+|images|imgs|bbox))?",
    re.IGNORECASE,
)
_CAMERA_LIKE = re.compile(r"(?:cam(?:era)?|view)[_-]?(?P<id>[0-9]+|[a-z])", re.IGNORECASE)
_SHORT_CAMERA = re.compile(r"c[_-]?(?P<id>[0-9]{1,3})", re.IGNORECASE)
_KIND_OF_FILE = re.compile(
    r"(?:images?|imgs?|crops?|pictures?|photos?|frames?|masks?|jpe?gs?|pngs?)(?:[_-][a-z]+)?"
    r"|data(?:set)?|annotations?|labels?|gt_(?:bbox|query)",
    re.IGNORECASE,
)
_TRACKLET = re.compile(
    r"(?:t|tr|track|tracklet|seq|sequence|clip|video|scene|session|day|s)?[_-]?[0-9]+(?:[_-][0-9]+)*",
    re.IGNORECASE,
)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each folder that has the name of a split.

    Args:
        names: the children of a folder, as `Location.list_children` returns them.
    """
    folders = {name.rstrip("/").lower(): name.rstrip("/") for name in names if name.endswith("/")}
    chosen = {}
    for split, known in SPLIT_FOLDERS.items():
        found = next((folders[name] for name in known if name in folders), None)
        if found is not None:
            chosen[found] = split
    return chosen


def are_whole(splits: Mapping[str, str]) -> bool:
    """Return whether the splits suffice for training or for evaluation."""
    return "train" in splits.values() or {"query", "gallery"} <= set(splits.values())


def folder_names(names: Iterable[str]) -> list[str]:
    """Return the names of the folders among children, without those of operating systems."""
    return [name[:-1] for name in names if name.endswith("/") and not is_junk_folder(name)]


def is_no_person(folder: str) -> bool:
    """Return whether a folder has the name of a split, a camera or a kind of file."""
    return any(pattern.fullmatch(folder) for pattern in (_SPLIT_LIKE, _CAMERA_LIKE, _KIND_OF_FILE))


def parse_camera_folder(folder: str, *, below_person: bool = False) -> str | None:
    """Parse the camera from the name of a folder such as `cam_a` or `camera2`; None if it has none.

    Args:
        folder: the name of the folder.
        below_person: whether it lies in the folder of a person, where `c1` is a camera too.
    """
    found = _CAMERA_LIKE.fullmatch(folder)
    if found is None and below_person:
        found = _SHORT_CAMERA.fullmatch(folder)
    if found is None:
        return None
    return found["id"] if found["id"].isdigit() else folder.lower()


def is_split_name(folder: str) -> bool:
    """Return whether a folder has the name of a split, such as `image_train` or `val`."""
    return _SPLIT_LIKE.fullmatch(folder) is not None


def may_be_short_camera(folder: str) -> bool:
    """Return whether a folder has a name such as `c1`, which may be a camera or a person."""
    return _SHORT_CAMERA.fullmatch(folder) is not None


def is_tracklet(folder: str) -> bool:
    """Return whether a folder has the name of a tracklet, such as `0001` or `seq_2`."""
    return _TRACKLET.fullmatch(folder) is not None


def hold_images(
    location: Location, folders: Sequence[str], *, most: int, tracklets: bool = False
) -> bool:
    """Return whether one of some folders, or a folder in one of them, holds images.

    Folders in them with the name of a split do not count.

    Args:
        location: the folder that holds the folders.
        folders: the names of the folders.
        most: the number of folders to search on each level.
        tracklets: whether to search cameras and tracklets on a third level, as in
            `anna/cam1/0001/`.
    """
    for folder in folders[:most]:
        here = location.join(folder)
        if holds_images(here):
            return True
        names = [name for name in folder_names(here.list_children()) if not is_split_name(name)]
        inner = [here.join(name) for name in names[:most]]
        if any(map(holds_images, inner)):
            return True
        if tracklets and any(_hold_tracklets(each, most) for each in inner):
            return True
    return False


def _hold_tracklets(location: Location, most: int) -> bool:
    names = [
        name
        for name in folder_names(location.list_children())
        if is_tracklet(name) or parse_camera_folder(name, below_person=True) is not None
    ]
    return any(holds_images(location.join(name)) for name in names[:most])


def stem(path: str) -> str:
    """Return the name of a file without its suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]
