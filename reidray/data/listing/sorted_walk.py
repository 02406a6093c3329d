"""Walk through a folder on a disk in the order of the full paths, one folder in memory at a time.

The order of the paths below `a/` beside those below `a-b/` is that of the names with their `/`. So
the entries of each folder are sorted with a `/` after the names of folders, and walked depth first.
"""

import heapq
import os
from collections.abc import Callable, Collection, Iterator

import pyarrow as pa

from reidray.data.listing.path_range import PathRange
from reidray.storage import local_disk as disk
from reidray.storage.local_disk import EntryKind

RUN_NAMES = 500_000  # number of names that are sorted as Python objects
CHUNK_NAMES = 8192

Select = Callable[[list[str]], list[str]]


def walk_sorted(
    root: str,
    select: Select,
    paths: PathRange,
    *,
    follow_links: bool = False,
    as_files: Collection[str] = (),
) -> Iterator[str]:
    """Yield the files of a range of a folder that are selected, sorted by path.

    Args:
        root: the folder, an absolute path.
        select: returns those to keep of a list of paths, in which hidden folders end in `/`. It
            gets every path of the range that `Location.list_files(hidden=True)` lists, in any
            order.
        paths: the range.
        follow_links: whether to list folders to which links out of the root lead.
        as_files: folders with one of these suffixes, in small letters, are listed as files are.

    Raises:
        OutsideLinkError: a link leads to a folder outside the root, and `follow_links` is off.
        OSError: a folder cannot be read.
    """
    repeated = disk.find_repeated_folders(root, as_files) if follow_links else set[str]()

    def names_of(folder: str) -> Iterator[str]:
        found = disk.scan_folder(
            root, folder[:-1], hidden=True, follow_links=follow_links, as_files=as_files
        )
        return _sort(_select_entries(folder, found, select, paths))

    folders = [("", names_of(""))]
    while folders:
        folder, names = folders[-1]
        for name in names:
            path = folder + name
            if not name.endswith("/"):
                yield path
            elif path[:-1] not in repeated:
                folders.append((path, names_of(path)))
                break
        else:
            folders.pop()


def _select_entries(
    folder: str, entries: Iterator[tuple[str, EntryKind]], select: Select, paths: PathRange
) -> Iterator[str]:
    """Yield the names of the selected files of a folder, and of its folders with a final `/`."""
    listed: list[str] = []
    start = len(folder)
    for name, kind in entries:
        path = folder + name
        if kind is EntryKind.FOLDER or kind is EntryKind.OUTSIDE_FOLDER:
            if paths.may_hold_files_of(f"{path}/"):
                yield f"{name}/"
            continue
        if kind is EntryKind.HIDDEN_FOLDER:
            path = f"{path}/"
        if paths.holds(path):
            listed.append(path)
        if len(listed) == CHUNK_NAMES:
            yield from (path[start:] for path in select(listed))
            listed = []
    yield from (path[start:] for path in select(listed))


def _sort(names: Iterator[str]) -> Iterator[str]:
    """Yield names in the order of their code points.

    More names than `RUN_NAMES` are kept as Arrow arrays, which take a third of the memory.
    """
    runs: list[pa.Array] = []
    run: list[str] = []
    for name in names:
        run.append(name)
        if len(run) == RUN_NAMES:
            run.sort()
            runs.append(pa.array(map(os.fsencode, run), pa.large_binary(), size=len(run)))
            run = []
    run.sort()
    return heapq.merge(run, *map(_iter_names, runs)) if runs else iter(run)


def _iter_names(array: pa.Array) -> Iterator[str]:
    for start in range(0, len(array), CHUNK_NAMES):
        yield from map(os.fsdecode, array.slice(start, CHUNK_NAMES).to_pylist())
