"""List, read and write files on a local disk, without leaving a folder through symbolic links."""

import errno
import functools
import os
import posixpath
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from reidray.errors import UserError

_SYSTEM_FOLDERS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})
"""Folders that operating systems make at the top of a disk, and that users may not read."""


class OutsideLinkError(UserError):
    """Signal that a path within a folder leads out of it through a symbolic link."""


def is_dir(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is none."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


class EntryKind(Enum):
    """Name the kinds of entries that a listing of a folder treats differently."""

    FILE = "file"
    HIDDEN_FOLDER = "hidden folder"
    FOLDER = "folder"
    OUTSIDE_FOLDER = "link to a folder outside the root"


def scan_folder(
    root: str,
    folder: str,
    *,
    hidden: bool = False,
    follow_links: bool = False,
    as_files: Collection[str] = (),
) -> Iterator[tuple[str, EntryKind]]:
    """Yield the names and kinds of the entries of one folder, in the order of the disk.

    Links to folders within the root are left out, as their files are listed where they lie. A
    folder with a suffix in `as_files` is yielded as a file too.

    Args:
        root: the root, an absolute path.
        folder: the folder within it; empty for the root itself.
        hidden: whether to yield hidden files and folders.
        follow_links: whether links to folders outside the root are allowed.
        as_files: folders with one of these suffixes, in small letters, are listed as files are.

    Raises:
        OutsideLinkError: an entry is a link to a folder outside the root, and `follow_links` is
            off.
        OSError: the folder cannot be read.
    """
    with os.scandir(posixpath.join(root, folder)) as entries:
        for entry in entries:
            name = entry.name
            if name in _SYSTEM_FOLDERS:
                continue
            if name.startswith("."):
                if hidden and is_dir(entry):
                    yield name, EntryKind.HIDDEN_FOLDER
                elif hidden and entry.is_file():
                    yield name, EntryKind.FILE
                continue
            if entry.is_dir(follow_symlinks=False):
                yield name, EntryKind.FOLDER
            elif not entry.is_symlink():
                yield name, EntryKind.FILE
                continue
            if posixpath.splitext(name)[1].lower() in as_files or not is_dir(entry):
                yield name, EntryKind.FILE
            elif entry.is_symlink() and _leaves(root, entry.path):
                _check_link(root, entry.path, follow_links)
                yield name, EntryKind.OUTSIDE_FOLDER


def walk(
    root: str,
    under: str,
    recursive: bool,
    *,
    hidden: bool = False,
    follow_links: bool = False,
    as_files: Collection[str] = (),
    repeated: set[str] | None = None,
) -> Iterator[str]:
    """Yield the paths that `Location.list_files` lists.

    Args:
        root: the root of the paths, an absolute path.
        under: the folder within the root to list; empty for the root itself.
        recursive: whether to list the folders within.
        hidden: whether to list hidden files, and hidden folders by their names with a final `/`.
            The contents of hidden folders are never listed.
        follow_links: whether to list folders to which links out of the root lead. A folder that
            can be reached in several ways is listed once, where it lies or under the first name.
        as_files: folders with one of these suffixes, in small letters, are listed as files are.
        repeated: receives the paths of the folders that are not listed, as they are listed under
            another path.

    Raises:
        OutsideLinkError: `under`, or a folder in it, is a link out of the root, and `follow_links`
            is off.
        OSError: a folder cannot be read.
    """
    _check_link(root, posixpath.join(root, under), follow_links)
    folders, links, seen = [under], list[str](), set[str]()
    while folders or links:
        links.sort(reverse=True)
        folder = (folders or links).pop()
        if follow_links:
            real = os.path.realpath(posixpath.join(root, folder))
            if real in seen:
                if repeated is not None:
                    repeated.add(folder)
                continue
            seen.add(real)
        entries = scan_folder(
            root, folder, hidden=hidden, follow_links=follow_links, as_files=as_files
        )
        for name, kind in entries:
            path = posixpath.join(folder, name)
            if kind is EntryKind.FILE:
                yield path
            elif kind is EntryKind.HIDDEN_FOLDER:
                yield f"{path}/"
            elif recursive:
                (folders if kind is EntryKind.FOLDER else links).append(path)


def find_repeated_folders(root: str, as_files: Collection[str] = ()) -> set[str]:
    """Return the paths under which `walk` with `follow_links` does not list a folder again.

    Raises:
        OSError: a folder cannot be read.
    """
    repeated = set[str]()
    for _ in walk(root, "", True, follow_links=True, as_files=as_files, repeated=repeated):
        pass
    return repeated


def read(root: str, path: str, limit: int | None, follow_links: bool = False) -> bytes:
    """Return the contents of a file, as `Location.read_bytes` does.

    Args:
        root: the root of the path, an absolute path.
        path: the path of the file within the root.
        limit: the number of bytes that the file may hold; None for any number.
        follow_links: whether to read a file to which a link out of the root leads.

    Raises:
        OutsideLinkError: the path leaves the root through a link, and `follow_links` is off.
        OSError: the file cannot be read, is not a regular file, or holds more than the limit.
    """
    with _open(root, path, follow_links) as file:
        check_length(os.fstat(file.fileno()).st_size, limit)
        return file.read()


def read_head(root: str, path: str, count: int, follow_links: bool = False) -> bytes:
    """Return the first bytes of a file.

    Args:
        root: the root of the path, an absolute path.
        path: the path of the file within the root.
        count: the number of bytes.
        follow_links: whether to read a file to which a link out of the root leads.

    Raises:
        OutsideLinkError: the path leaves the root through a link, and `follow_links` is off.
        OSError: the file cannot be read, or is not a regular file.
    """
    with _open(root, path, follow_links) as file:
        return file.read(count)


@contextmanager
def naming_file(file: Path) -> Iterator[None]:
    """Name a file in the error of a block that writes it: on a full disk, Python names none."""
    try:
        yield
    except OSError as error:
        error.filename = str(file)
        raise


def write(file: Path, data: bytes | memoryview) -> None:
    """Write a file in one step, so that no reader sees a half-written one. Replace an earlier file.

    Raises:
        OSError: the disk failed.
    """
    staged = file.with_name(f".{file.name}.{token_hex(4)}.part")
    try:
        with naming_file(file), staged.open("xb") as stream:
            stream.write(data)
        staged.replace(file)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def stamp(file: str, settled: int) -> str:
    """Return a text of the size, times and inode of a file, which changes with its contents.

    Programs can set the modification time of a file, but not the time of its last change.

    Args:
        file: an absolute path.
        settled: the time, in nanoseconds since 1970, before which the last change must lie.

    Returns:
        The text; empty if the file was changed later, or does not exist.
    """
    try:
        found = os.stat(file)  # noqa: PTH116 - once per image
    except OSError:
        return ""
    if max(found.st_mtime_ns, found.st_ctime_ns) >= settled:
        return ""
    return f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}-{found.st_ino:x}"


def check_length(length: int, limit: int | None) -> None:
    """Check that a file holds no more bytes than the limit.

    Raises:
        OSError: the file holds more.
    """
    if limit is not None and length > limit:
        raise OSError(errno.EFBIG, f"More than {limit:,} bytes")


@contextmanager
def _open(root: str, path: str, follow_links: bool) -> Iterator[BinaryIO]:
    """Open a regular file within the root for reading."""
    full = posixpath.join(root, path)
    _check_link(root, full, follow_links)
    with open(full, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        yield file


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _leaves(root: str, path: str) -> bool:
    """Return whether a path leads out of the root through a symbolic link."""
    folder, name = posixpath.split(path)
    linked = os.path.islink(path)  # noqa: PTH114 - once per image: a Path costs more than the call
    target = os.path.realpath(path) if linked else posixpath.join(_real_folder(folder), name)
    real_root = _real_folder(root)
    return os.path.commonpath((real_root, target)) != real_root


def _check_link(root: str, path: str, follow_links: bool) -> None:
    if not follow_links and _leaves(root, path):
        raise OutsideLinkError(
            f"{path}: is a link that leaves {root}; put the files themselves there, or read what "
            "such links lead to with `follow_links=True`"
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; do not wait for a writer if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
