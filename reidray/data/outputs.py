"""Outputs that appear whole or not at all."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.data.file_lock import only_writer
from reidray.errors import UserError


def require_new(output: Path, otherwise: str) -> None:
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


def write_whole(path: Path, text: str) -> None:
    """Write a file that is at no moment seen half written; the one before is replaced."""
    staged = path.with_name(f".{path.name}.part")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


@contextmanager
def staged_directory(destination: Path, replaces: frozenset[str] = frozenset()) -> Iterator[Path]:
    """A folder to write in, which becomes `destination` in one step when the block succeeds.

    The folder lies hidden beside the destination. When the block fails, it is removed and what
    was at the destination stays. An earlier output there is exchanged for the new one and deleted.
    What a process that was killed left behind is removed by the next.

    Args:
        destination: where the output shall appear; its parents are made.
        replaces: the names an earlier output may consist of, and so the only ones that may be lost.

    Raises:
        UserError: the place cannot be written, holds something that is not in `replaces`, or is
            being written by somebody else.
    """
    destination = destination.expanduser().resolve()
    _check_replaceable(destination, replaces)
    staging = destination.with_name(f".{destination.name}.staging")
    with only_writer(destination):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            yield staging
            _check_replaceable(destination, replaces)
            _publish(staging, destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _check_replaceable(destination: Path, replaces: frozenset[str]) -> None:
    if not destination.exists():
        return
    if not destination.is_dir():
        raise UserError(f"{destination}: is a file, expected a folder to write; choose another")
    others = sorted({path.name for path in destination.iterdir()} - replaces)
    if others:
        raise UserError(
            f"{destination}: holds {others[0]!r}, which would be lost; choose an empty folder"
        )


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
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
