"""Decide by names and first bytes which listed files are images, and count the others."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from reidray.data.images.image_formats import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    is_image_head,
    suffix_of,
)
from reidray.storage.local_disk import OutsideLinkError
from reidray.storage.location import Location

NO_SUFFIX, HIDDEN, LINKS = "without a suffix", "hidden", "links that leave the folder"
HIDDEN_FOLDERS = "hidden folders"
"""Kinds of skipped files other than suffixes."""

_IMAGE, _UNSURE, _JUNK = "an image", "unsure", "junk"
_JUNK_FOLDERS = frozenset(
    {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
_CONCURRENT_READS = 16


def select_images(location: Location, paths: Sequence[str], skipped: Counter[str]) -> list[str]:
    """Return the images among listed files, in their order, and count the others.

    A file with the suffix of an image is one, even if it cannot be read. A file with an unknown
    suffix, or without one, is an image if its first bytes are those of an image. Files that
    operating systems make are neither images nor counted.

    Args:
        location: the root of the paths.
        paths: the paths of files, and of hidden folders with a final `/`.
        skipped: the counts by suffix or kind, to which those of the other files are added.

    Raises:
        OSError: the object store failed.
    """
    kinds = [_kind_of(path) for path in paths]
    unsure = [path for path, kind in zip(paths, kinds, strict=True) if kind == _UNSURE]
    heads = iter(read_heads(location, unsure))
    images = []
    for path, kind in zip(paths, kinds, strict=True):
        found = _kind_by_head(path, next(heads)) if kind == _UNSURE else kind
        if found == _IMAGE:
            images.append(path)
        elif found != _JUNK:
            skipped[found] += 1
    return images


def read_heads(location: Location, paths: Sequence[str]) -> list[bool | None]:
    """Return for each file whether its first bytes are those of an image.

    The value of a link out of the folder is None.

    Raises:
        OSError: the object store failed.
    """

    def is_image(path: str) -> bool | None:
        try:
            return is_image_head(location.read_head(path, HEAD_BYTES))
        except OutsideLinkError:
            return None
        except OSError:
            if location.is_remote:
                raise
            return False  # a pipe, a dangling link, a file without permission to read

    if not location.is_remote or not paths:
        return [is_image(path) for path in paths]
    with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
        return list(threads.map(is_image, paths))


def is_junk_folder(name: str) -> bool:
    """Return whether operating systems make folders of this name for themselves."""
    return name.rstrip("/") in _JUNK_FOLDERS


def is_junk(path: str) -> bool:
    """Return whether operating systems make files, or hidden folders, of this path."""
    folders, _, name = path.rstrip("/").rpartition("/")
    return name.lower() in _JUNK_FILES or name.startswith("._") or _lies_in_junk(folders)


@lru_cache(maxsize=64)
def _lies_in_junk(folders: str) -> bool:
    return not _JUNK_FOLDERS.isdisjoint(folders.split("/"))


def _kind_of(path: str) -> str:
    """Return `_IMAGE`, `_UNSURE`, `_JUNK`, or the kind under which a file is counted."""
    if is_junk(path):
        return _JUNK
    if path.rstrip("/").rpartition("/")[2].startswith("."):
        return HIDDEN_FOLDERS if path.endswith("/") else HIDDEN
    suffix = suffix_of(path)
    if suffix in IMAGE_SUFFIXES:
        return _IMAGE
    return suffix if suffix in OTHER_SUFFIXES else _UNSURE


def _kind_by_head(path: str, is_image: bool | None) -> str:
    """Return the kind of a file of which only the first bytes show whether it is an image."""
    if is_image:
        return _IMAGE
    return LINKS if is_image is None else suffix_of(path) or NO_SUFFIX
