"""Write files and folders on a disk so that they appear whole or not at all."""

import ctypes
import errno
import fcntl
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from secrets import token_hex

from reidray.errors import MachineError, UserError
from reidray.storage import local_disk as disk
from reidray.storage.locks.file_lock import FolderLock, lock_folder
from reidray.storage.object_store import redact_secrets
from reidray.storage.output_checks import check_output_folder

log = logging.getLogger("reidray")

TEMPORARY_NAME = re.compile(r"reidray-output-[0-9a-f]{16}")
"""Names of the folders that `temporary_folder` makes."""


def find_foreign_file(
    files: frozenset[str], replaces: frozenset[str], summary: str | None = None
) -> str | None:
    """Return a file of a folder that cannot belong to an earlier output; None if all can.

    Args:
        files: paths relative to the folder, in POSIX form.
        replaces: the files that an earlier output may consist of.
        summary: the file that every output has; None where there is no such file.
    """
    others = files - replaces
    if not others and summary is not None and summary not in files:
        others = files
    return min(others, default=None)


def check_new_output(output: Path, otherwise: str) -> None:
    """Check that an output does not exist yet, or is an empty folder.

    Args:
        output: the folder to make.
        otherwise: the alternative to a new folder, for the message of the error.

    Raises:
        UserError: the output exists and is not an empty folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"output {output} exists and is not an empty folder: name a new one, or {otherwise}"
        )


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a file in one step, so that no reader sees a half-written one. Replace an earlier file.

    Args:
        path: the file; its folder must exist.
        data: its contents; text is encoded as UTF-8.

    Raises:
        OSError: the disk failed.
    """
    disk.write(path, data.encode() if isinstance(data, str) else data)


@contextmanager
def naming_write_errors(output: str, advice: str) -> Iterator[None]:
    """Turn an error of the disk or the object store into one line.

    Args:
        output: what the block writes.
        advice: what the user can do.

    Raises:
        MachineError: the disk is full, or the disk or the object store failed.
    """
    try:
        yield
    except OSError as error:
        reason = redact_secrets(" ".join(str(error).split()))
        raise MachineError(f"{output} cannot be written ({reason}): {advice}") from error


@contextmanager
def atomic_folder(
    destination: Path, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> Iterator[Path]:
    """Yield a new folder that becomes `destination` in one step when the block succeeds.

    The new folder lies hidden beside the destination. If the block fails, the new folder is removed
    and the destination stays as it was. If it succeeds, the new folder takes the place of an
    earlier output, which is deleted. The lock beside the destination names the new folder. If the
    process is killed, the next process removes that folder and no other.

    Args:
        destination: the output folder; its parents are made.
        replaces: the files that an earlier output may consist of, as paths within it. No other
            file is ever deleted.
        summary: the file that every output has; None where there is no such file.

    Raises:
        UserError: the destination cannot be written, holds a file that is not in `replaces`, or
            another process is writing it.
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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder in the system's folder for temporary files, which is removed afterwards.

    The process holds a lock on the folder. If the process is killed, the next call of any process
    removes the folder.
    """
    _remove_abandoned_folders()
    folder = Path(tempfile.mkdtemp(prefix=".reidray-"))
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        # Only now does the folder have the name that other processes look for.
        folder = folder.rename(folder.with_name(f"reidray-output-{token_hex(8)}"))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(opened)


def _remove_abandoned_folders() -> None:
    """Remove the temporary folders of killed processes, which no process has locked."""
    for folder in Path(tempfile.gettempdir()).iterdir():
        if not TEMPORARY_NAME.fullmatch(folder.name):
            continue
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's folder, or another process has just removed it
            continue
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(opened).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # the process lives
            pass
        finally:
            os.close(opened)


def check_replaceable(
    destination: Path, replaces: frozenset[str], summary: str | None = None
) -> None:
    """Check that a folder holds nothing but an earlier output, which a new one may replace.

    Args:
        destination: the folder; it need not exist.
        replaces: the files that an earlier output may consist of, as paths within it.
        summary: the file that every output has; None where there is no such file.

    Raises:
        UserError: a file or folder in it would be lost; the message names one.
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
    """Remove the staging folder of a killed process, which its note in the lock names.

    If the process was killed between two renames, put the earlier output back.
    """
    name = re.escape(destination.name)
    if not re.fullmatch(rf"\.{name}\.[0-9a-f]{{8}}\.staging", lock.earlier_note):
        _warn_of_unnamed_staging(destination)
        return
    staging = destination.with_name(lock.earlier_note)
    aside = _aside(staging)
    if aside.is_dir() and not destination.exists():
        aside.rename(destination)
    for left in (staging, aside):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def _warn_of_unnamed_staging(destination: Path) -> None:
    """Log the staging folders of an earlier version, which no lock names, and leave them alone."""
    pattern = re.compile(rf"\.{re.escape(destination.name)}(\.[0-9a-f]{{8}})?\.staging(\.old)?")
    for path in sorted(destination.parent.iterdir()):
        if pattern.fullmatch(path.name):
            log.warning("%s: a killed run seems to have left this folder; delete it", path)


def _publish(staging: Path, destination: Path) -> None:
    """Put `staging` in the place of `destination`; an earlier output is then at `staging`."""
    try:
        staging.rename(destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staging, destination)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders: in one step on Linux, by renames on other systems."""
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
    """Return the path of the earlier output between two renames."""
    return staging.with_name(f"{staging.name}.old")
