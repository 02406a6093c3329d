"""Split a large folder on a disk into ranges of paths that parallel tasks can list."""

from itertools import islice

from reidray.data.images.image_formats import IMAGE_SUFFIXES
from reidray.data.listing.image_listing import SHARD_ROWS
from reidray.data.listing.path_range import PathRange
from reidray.storage import local_disk as disk
from reidray.storage.local_disk import EntryKind
from reidray.storage.location import Location

MAX_FILES = 20_000
"""The number of files in a folder above which the folders in it are not listed by separate tasks,
as each of these tasks reads the entries of the folder."""

MAX_NAMES = 4096  # number of folders between which ranges are cut
_SAMPLES = 16


def split_folder(images: Location, parts: int) -> list[PathRange]:
    """Return ranges that cover a folder, cut between the folders in it.

    Args:
        images: the folder.
        parts: the number of ranges wanted. There are fewer where a range would hold less than a
            shard, by an estimate from a few folders, or where the folders are few. There is one
            where links are followed, as these may lead to one folder in several ways.

    Raises:
        OutsideLinkError: a link leads to a folder outside.
        OSError: a folder cannot be read.
    """
    if images.follow_links:
        return [PathRange()]
    folders, number = [""], 1
    while len(folders) < parts:
        inner = [_list_folders(images.uri, folder) for folder in folders]
        if not any(names for names, _ in inner):
            break
        number = sum(max(count, 1) for _, count in inner)
        folders = [
            name
            for folder, (names, _) in zip(folders, inner, strict=True)
            for name in names or [folder]
        ]
    if len(folders) == 1:
        return [PathRange()]
    sample = folders[:: -(-len(folders) // _SAMPLES)]
    files = [_count_files(images.uri, folder) for folder in sample]
    expected = sum(files) / len(sample) * number
    step = -(-len(folders) // max(1, min(parts, int(expected) // SHARD_ROWS)))
    return list(PathRange().cut(folders[step::step]))


def _list_folders(root: str, folder: str) -> tuple[list[str], int]:
    """Return the sorted folders in a folder, or a random part of many, and their number.

    There are none where the folder holds more than `MAX_FILES` files.
    """
    names: list[str] = []
    count = files = 0
    step = 1
    for name, kind in disk.scan_folder(root, folder[:-1], as_files=IMAGE_SUFFIXES):
        if kind is not EntryKind.FOLDER:
            files += 1
            if files > MAX_FILES:
                return [], 0
            continue
        if count % step == 0:
            names.append(f"{folder}{name}/")
        count += 1
        if len(names) > MAX_NAMES:
            names, step = names[::2], 2 * step
    return sorted(names), count


def _count_files(root: str, folder: str) -> int:
    """Return the number of files of a folder, at most that of a shard."""
    files = disk.walk(root, folder[:-1], True, as_files=IMAGE_SUFFIXES)
    return sum(1 for _ in islice(files, SHARD_ROWS))
