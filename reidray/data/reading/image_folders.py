"""Find the images of a folder, and count the files in it that are none."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reidray.errors import UserError
from reidray.storage.image_formats import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    is_image_head,
    is_image_name,
    may_be_image,
    suffix_of,
)
from reidray.storage.local_disk import OutsideLinkError
from reidray.storage.location import Location

NO_SUFFIX, HIDDEN, LINKS = "without a suffix", "hidden", "links that leave the folder"

_JUNK_FOLDERS = frozenset(
    {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
_CONCURRENT_READS = 16
_LOOKED_AT = 5  # files of a folder whose first bytes are read to see whether it holds images


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder.

    Attributes:
        paths: sorted, relative to the root that was asked for.
        skipped: how many files are no images, by suffix or kind. Files that systems leave by
            themselves, such as Thumbs.db, are not counted.
    """

    paths: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def find_images(location: Location, under: str = "") -> FoundImages:
    """Find the images of a folder and of the folders in it.

    A file whose suffix is that of an image is listed whether or not it can be read. A file with an
    unknown suffix, or with none, is an image if its first bytes say so.

    Args:
        location: the root of the paths.
        under: list the images of this folder within the root only.

    Raises:
        UserError: the folder is missing, is a file or holds no images, or a link to a folder
            leaves the root.
        OSError: the object store failed.
    """
    files = [path for path in location.list_files(under=under, hidden=True) if not _is_junk(path)]
    shown = [path for path in files if not _is_hidden(path)]
    images = [path for path in shown if is_image_name(path)]
    skipped = Counter({HIDDEN: len(files) - len(shown)} if len(shown) < len(files) else {})
    unsure = [path for path in shown if may_be_image(path)]
    for path, found in zip(unsure, _look_at(location, unsure), strict=True):
        if found is True:
            images.append(path)
        else:
            skipped[LINKS if found is None else suffix_of(path) or NO_SUFFIX] += 1
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
    """Return the paths of `find_images` as a list."""
    return list(find_images(location, under).paths)


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """Return counts of files as one line, such as `skipped: 3 .txt, 1 .csv`."""
    kinds = sorted(skipped.items(), key=lambda kind: (-kind[1], kind[0]))
    return f"skipped: {', '.join(f'{count} {kind}' for kind, count in kinds)}"


def count_skipped(names: Iterable[str]) -> Counter[str]:
    """Count files by suffix, without those that systems leave by themselves."""
    return Counter(suffix_of(name) or NO_SUFFIX for name in names if not _is_junk(name))


def holds_images(location: Location) -> bool:
    """Return whether there are images in the folder itself, not in the folders within."""
    names = [name for name in location.list_children() if not _is_junk(name)]
    if any(is_image_name(name) for name in names):
        return True
    unsure = [name for name in names if not name.endswith("/") and may_be_image(name)]
    return any(_look_at(location, unsure[:_LOOKED_AT]))


def is_junk_folder(name: str) -> bool:
    """Return whether a system made the folder of this name for itself."""
    return name.rstrip("/") in _JUNK_FOLDERS


def _is_junk(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        name.lower() in _JUNK_FILES
        or name.startswith("._")
        or any(folder in _JUNK_FOLDERS for folder in folders)
    )


def _is_hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith(".")


def _look_at(location: Location, paths: Sequence[str]) -> list[bool | None]:
    """Tell for each file whether its first bytes are those of an image; None for a foreign link."""

    def look(path: str) -> bool | None:
        try:
            return is_image_head(location.read_head(path, HEAD_BYTES))
        except OutsideLinkError:
            return None
        except OSError:
            if location.is_remote:
                raise
            return False  # a pipe, a dangling link, a file that nobody may read

    if not location.is_remote:
        return [look(path) for path in paths]
    with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
        return list(threads.map(look, paths))
