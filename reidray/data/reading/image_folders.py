"""Find the images of a folder, and count the other files in it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reidray.data.images.image_formats import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    is_image_head,
    is_image_name,
    may_be_image,
    suffix_of,
)
from reidray.errors import UserError
from reidray.storage.local_disk import OutsideLinkError
from reidray.storage.location import Location

NO_SUFFIX, HIDDEN, LINKS = "without a suffix", "hidden", "links that leave the folder"
HIDDEN_FOLDERS = "hidden folders"
"""Kinds of skipped files other than suffixes."""

_JUNK_FOLDERS = frozenset(
    {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
_CONCURRENT_READS = 16
_MAX_HEADS = 5  # number of files in a folder that `holds_images` reads the first bytes of


@dataclass(frozen=True)
class FoundImages:
    """Hold the images of a folder.

    Attributes:
        paths: the sorted paths of the images, relative to the root.
        skipped: the number of files that are no images, by suffix or kind. Files that operating
            systems make, such as Thumbs.db, are not counted.
    """

    paths: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def find_images(location: Location, under: str = "") -> FoundImages:
    """Find the images of a folder and of all folders in it.

    A file with the suffix of an image counts as one, even if it cannot be read. A file with an
    unknown suffix, or without one, counts as an image if its first bytes are those of an image.

    Args:
        location: the root of the paths.
        under: the folder within the root to search; empty for the root itself.

    Raises:
        UserError: the folder is missing, is a file or holds no images, or a link to a folder
            leaves the root.
        OSError: the object store failed.
    """
    # A folder with the name of an image is listed too: it then counts as an image that does not
    # decode, and is not overlooked.
    listed = location.list_files(under=under, hidden=True, as_files=IMAGE_SUFFIXES)
    files = [path for path in listed if not _is_junk(path)]
    shown = [path for path in files if not _is_hidden(path)]
    images = [path for path in shown if is_image_name(path)]
    hidden = [path for path in files if _is_hidden(path)]
    skipped = Counter(HIDDEN_FOLDERS if path.endswith("/") else HIDDEN for path in hidden)
    unsure = [path for path in shown if may_be_image(path)]
    for path, is_image in zip(unsure, _read_heads(location, unsure), strict=True):
        if is_image:
            images.append(path)
        else:
            skipped[LINKS if is_image is None else suffix_of(path) or NO_SUFFIX] += 1
    skipped.update(
        suffix_of(path) for path in shown if not is_image_name(path) and not may_be_image(path)
    )
    if not images:
        folder = location.join(under).uri if under else location.uri
        found_instead = f"; {describe_skipped(skipped)}" if skipped else ""
        raise UserError(
            f"{folder}: holds no images ({' '.join(sorted(IMAGE_SUFFIXES))}){found_instead}"
        )
    return FoundImages(tuple(sorted(images)), dict(skipped))


def list_images(location: Location, under: str = "") -> list[str]:
    """Return the sorted paths of the images of a folder, as `find_images` finds them."""
    return list(find_images(location, under).paths)


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """Return the counts of skipped files as one line, such as `skipped: 3 .txt, 1 .csv`."""
    kinds = sorted(skipped.items(), key=lambda kind: (-kind[1], kind[0]))
    return f"skipped: {', '.join(f'{count} {kind}' for kind, count in kinds)}"


def count_skipped(names: Iterable[str]) -> Counter[str]:
    """Count files by suffix, without those that operating systems make."""
    return Counter(suffix_of(name) or NO_SUFFIX for name in names if not _is_junk(name))


def holds_images(location: Location) -> bool:
    """Return whether a folder itself holds images; the folders within do not count."""
    names = [name for name in location.list_children() if not _is_junk(name)]
    if any(is_image_name(name) for name in names):
        return True
    unsure = [name for name in names if not name.endswith("/") and may_be_image(name)]
    return any(_read_heads(location, unsure[:_MAX_HEADS]))


def is_junk_folder(name: str) -> bool:
    """Return whether operating systems make folders of this name for themselves."""
    return name.rstrip("/") in _JUNK_FOLDERS


def _is_junk(path: str) -> bool:
    *folders, name = path.rstrip("/").split("/")
    return (
        name.lower() in _JUNK_FILES
        or name.startswith("._")
        or any(folder in _JUNK_FOLDERS for folder in folders)
    )


def _is_hidden(path: str) -> bool:
    return path.rstrip("/").rpartition("/")[2].startswith(".")


def _read_heads(location: Location, paths: Sequence[str]) -> list[bool | None]:
    """Return for each file whether its first bytes are those of an image.

    The value of a link out of the folder is None.
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

    if not location.is_remote:
        return [is_image(path) for path in paths]
    with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
        return list(threads.map(is_image, paths))
