"""Walk through a folder on a disk in the order of the full paths, one folder in memory at a time.

The order of the paths below `a/` beside those below `a-b/` is that of the names with their `/`. So
the entries of each folder are sorted with a `/` after the names of folders, and walked depth first.
"""

import heapq
import os
from collections.abc import Callable, Collection, Iterator

import pyarrow as pa

from reidray.storage import local_disk as disk
from reidray.storage.local_disk import EntryKind

RUN_NAMES = 500_000  # number of names that are sorted as Python objects
CHUNK_NAMES = 8192

Select = Callable[[list[str]], list[str]]


def walk_sorted(
    root: str, select: Select, *, follow_links: bool = False, as_files: Collection[str] = ()
) -> Iterator[str]:
    """Yield the files of a folder that are selected, sorted by path.

    Args:
        root: the folder, an absolute path.
        select: returns those to keep of a list of paths, in which hidden folders end in `/`. It
            gets every path that `Location.list_files(hidden=True)` lists, in any order.
        follow_links: whether to list folders to which links out of the root lead.
        as_files: folders with one of these suffixes, in small letters, are listed as files are.

    Raises:
        OutsideLinkError: a link leads to a folder outside the root, and `follow_links` is off.
        OSError: a folder cannot be read.
    """
    repeated = disk.find_repeated_folders(root, as_files) if follow_links else set[str]()

    def entries_of(folder: str) -> Iterator[str]:
        found = disk.scan_folder(
            root, folder[:-1], hidden=True, follow_links=follow_links, as_files=as_files
        )
        return _sort(_select_entries(folder, found, select))

    folders = [("", entries_of(""))]
    while folders:
        folder, names = folders[-1]
        for name in names:
            path = folder + name
            if not name.endswith("/"):
                yield path
            elif path[:-1] not in repeated:
                folders.append((path, entries_of(path)))
                break
        else:
            folders.pop()


def _select_entries(
    folder: str, entries: Iterator[tuple[str, EntryKind]], select: Select
) -> Iterator[str]:
    """Yield the names of the selected files of a folder, and of its folders with a final `/`."""
    listed: list[str] = []
    start = len(folder)
    for name, kind in entries:
        if kind is EntryKind.FOLDER or kind is EntryKind.OUTSIDE_FOLDER:
            yield f"{name}/"
        else:
            listed.append(f"{folder}{name}/" if kind is EntryKind.HIDDEN_FOLDER else folder + name)
        if len(listed) == CHUNK_NAMES:
            yield from (path[start:] for path in select(listed))
            listed = []
    yield from (path[start:] for path in select(listed))


def _sort(names: Iterator[str]) -> Iterator[str]:
    """Yield names in the order of their bytes.

    More names than `RUN_NAMES` are kept as Arrow arrays, which take a third of the memory.
    """
    runs: list[pa.Array] = []
    run: list[bytes] = []
    for name in names:
        run.append(os.fsencode(name))
        if len(run) == RUN_NAMES:
            run.sort()
            runs.append(pa.array(run, pa.large_binary()))
            run = []
    run.sort()
    if not runs:
        return map(os.fsdecode, run)
    return map(os.fsdecode, heapq.merge(run, *map(_iter_bytes, runs)))


def _iter_bytes(array: pa.Array) -> Iterator[bytes]:
    for start in range(0, len(array), CHUNK_NAMES):
        yield from array.slice(start, CHUNK_NAMES).to_pylist()
