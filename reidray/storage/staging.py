"""Outputs that appear whole or not at all."""

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from secrets import token_hex

from reidray.errors import UserError
from reidray.storage import local_disk as disk
from reidray.storage.locks.file_lock import FolderLock, lock_folder
from reidray.storage.output_checks import check_output_folder


def find_foreign_file(
    files: frozenset[str], replaces: frozenset[str], summary: str | None = None
) -> str | None:
    """Return one of the files of a folder that no earlier output can have left, or None.

    Args:
        files: paths relative to the folder, in POSIX form.
        replaces: those that an earlier output may consist of.
        summary: the one of them that every output has; None where there is no such file.
    """
    others = files - replaces
    if not others and summary is not None and summary not in files:
        others = files
    return min(others, default=None)


def check_new_output(output: Path, otherwise: str) -> None:
    """Refuse an output that is there already, unless it is an empty folder.

    Args:
        output: the folder that is to be made.
        otherwise: what else than naming a new one can be done.

    Raises:
        UserError: says so.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"output {output} exists and is not an empty folder: name a new one, or {otherwise}"
        )


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a file that is at no moment seen half written; the one before is replaced."""
    disk.write(path, data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(
    destination: Path, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> Iterator[Path]:
    """A folder to write in, which becomes `destination` in one step when the block succeeds.

    The folder lies hidden beside the destination, under a name of its own. When the block fails, it
    is removed and what was at the destination stays. An earlier output there is exchanged for the
    new one and deleted. The lock beside the destination names the folder, so that the next process
    removes what one that was killed left, and nothing else.

    Args:
        destination: where the output shall appear; its parents are made.
        replaces: the files an earlier output may consist of, and so the only ones that may be lost,
            as paths within it.
        summary: the one of them that every output has; None where there is no such file.

    Raises:
        UserError: the place cannot be written, holds something that is not in `replaces`, or is
            being written by somebody else.
    """
    check_output_folder(destination)
    destination = Path(os.path.realpath(destination.expanduser()))
    check_replaceable(destination, replaces, summary)
    with lock_folder(destination) as lock:
        _remove_earlier_staging(lock, destination)
        staging = destination.with_name(f".{destination.name}.{token_hex(4)}.staging")
        lock.note(staging.name)
        try:
            staging.mkdir()
            yield staging
            check_replaceable(destination, replaces, summary)
            _publish(staging, destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def check_replaceable(
    destination: Path, replaces: frozenset[str], summary: str | None = None
) -> None:
    """Refuse a destination that holds anything but an earlier output.

    Raises:
        UserError: names one of the files or folders that would be lost.
    """
    if not destination.exists():
        return
    if not destination.is_dir():
        raise UserError(f"{destination}: is a file, expected a folder to write; choose another")
    parents = {str(parent) for file in replaces for parent in PurePosixPath(file).parents}
    files, foreign = set(), None
    for folder, folders, names in os.walk(destination):
        within = Path(folder).relative_to(destination)
        for name in sorted(folders):
            path = (within / name).as_posix()
            if path not in parents or Path(folder, name).is_symlink():
                foreign = foreign or path
        for name in sorted(names):
            path = (within / name).as_posix()
            files.add(path)
            if not Path(folder, name).is_file() or Path(folder, name).is_symlink():
                foreign = foreign or path
        folders[:] = [] if foreign else folders
    foreign = foreign or find_foreign_file(frozenset(files), replaces, summary)
    if foreign:
        raise UserError(
            f"{destination}: holds {foreign!r}, which would be lost; choose an empty folder"
        )


def _remove_earlier_staging(lock: FolderLock, destination: Path) -> None:
    """Remove what a process that was killed left, by the name that it noted in the lock.

    Where it was killed between two renames, the earlier output is put back.
    """
    name = re.escape(destination.name)
    if not re.fullmatch(rf"\.{name}\.[0-9a-f]{{8}}\.staging", lock.earlier_note):
        return
    staging = destination.with_name(lock.earlier_note)
    aside = _aside(staging)
    if aside.is_dir() and not destination.exists():
        aside.rename(destination)
    for left in (staging, aside):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def _publish(staging: Path, destination: Path) -> None:
    """Put `staging` in the place of `destination`; what was there is then at `staging`."""
    try:
        staging.rename(destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staging, destination)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders: in one step on Linux, by renames where there is no such call."""
    if sys.platform == "linux":
        at_cwd, rename_exchange = -100, 2
        libc = ctypes.CDLL(None, use_errno=True)
        if not libc.renameat2(at_cwd, bytes(one), at_cwd, bytes(other), rename_exchange):
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    aside = _aside(one)
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _aside(staging: Path) -> Path:
    """Return where the earlier output lies between two renames."""
    return staging.with_name(f"{staging.name}.old")
