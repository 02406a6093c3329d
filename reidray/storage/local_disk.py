"""Folders on a local disk: links that lead out of one are not followed, pipes not waited for."""

import errno
import functools
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from reidray.errors import UserError
from reidray.storage.image_formats import is_image_name

_SYSTEM_FOLDERS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})
"""Folders of a file system's own at its top, which its users may often not read."""


class OutsideLinkError(UserError):
    """A path within a folder is a symbolic link, or lies behind one, that leads out of it."""


def is_dir(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one; a link to itself is none."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def walk(
    root: str, under: str, recursive: bool, hidden: bool = False, follow_links: bool = False
) -> Iterator[str]:
    """The paths that `Location.list_files` lists.

    Args:
        root: an absolute path.
        under: a folder within it, empty for itself.
        recursive: go into the folders within.
        hidden: list hidden files too. Hidden folders are never listed.
        follow_links: go into folders that links out of the root lead to. A folder that can be
            reached in several ways is listed once, where it lies or under the first name.

    Raises:
        OutsideLinkError: `under`, or a folder in it, is a link that leaves the root, and not
            `follow_links`.
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
                continue
            seen.add(real)
        with os.scandir(posixpath.join(root, folder)) as entries:
            for entry in entries:
                is_shown = not entry.name.startswith(".") or (hidden and entry.is_file())
                if not is_shown or entry.name in _SYSTEM_FOLDERS:
                    continue
                path = posixpath.join(folder, entry.name)
                if recursive and entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                if is_image_name(path) or not is_dir(entry):
                    yield path
                elif entry.is_symlink() and _leaves(root, entry.path):
                    _check_link(root, entry.path, follow_links)
                    if recursive:
                        links.append(path)


def read(root: str, path: str, limit: int | None, follow_links: bool = False) -> bytes:
    """The contents of a file, as `Location.read_bytes` gives them.

    Args:
        root: an absolute path.
        path: within it.
        limit: the most bytes that the file may hold.
        follow_links: read a file that a link out of the root leads to.

    Raises:
        OutsideLinkError: the path leaves the root through a link, and not `follow_links`.
        OSError: the file cannot be read, is no regular one, or holds more than the limit.
    """
    with _open(root, path, follow_links) as file:
        check_length(os.fstat(file.fileno()).st_size, limit)
        return file.read()


def read_head(root: str, path: str, count: int, follow_links: bool = False) -> bytes:
    """Return the first bytes of a file.

    Args:
        root: an absolute path.
        path: of the file, within the root.
        count: how many bytes.
        follow_links: read a file that a link out of the root leads to.

    Raises:
        OutsideLinkError: the path leaves the root through a link, and not `follow_links`.
        OSError: the file cannot be read or is no regular one.
    """
    with _open(root, path, follow_links) as file:
        return file.read(count)


def write(file: Path, data: bytes | memoryview) -> None:
    """Write a file that is at no moment seen half written; the one before is replaced.

    Raises:
        OSError: the disk failed.
    """
    staged = file.with_name(f".{file.name}.{token_hex(4)}.part")
    try:
        with staged.open("xb") as stream:
            stream.write(data)
        staged.replace(file)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def stamp(file: str, settled: int) -> str:
    """Size, times and place of a file, which change with its contents.

    The time at which a file was changed is the system's, and cannot be set.

    Args:
        file: an absolute path.
        settled: nanoseconds since 1970 before which it must have been changed last.

    Returns:
        Empty where the file was changed since, or is not there.
    """
    try:
        found = os.stat(file)  # noqa: PTH116 - once per image
    except OSError:
        return ""
    if max(found.st_mtime_ns, found.st_ctime_ns) >= settled:
        return ""
    return f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}-{found.st_ino:x}"


def check_length(length: int, limit: int | None) -> None:
    """Refuse a file of more bytes than the limit.

    Raises:
        OSError: it has more.
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
    """Tell whether a path leads elsewhere than it says, through a link out of the root."""
    folder, name = posixpath.split(path)
    linked = os.path.islink(path)  # noqa: PTH114 - once per image: a Path costs more than the call
    target = os.path.realpath(path) if linked else posixpath.join(_real_folder(folder), name)
    real_root = _real_folder(root)
    return os.path.commonpath((real_root, target)) != real_root


def _check_link(root: str, path: str, follow_links: bool) -> None:
    if not follow_links and _leaves(root, path):
        raise OutsideLinkError(
            f"{path}: is a link that leaves {root}; put the files themselves there, or read what "
            "such links lead to with --follow-links"
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, a pipe without waiting for who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)
