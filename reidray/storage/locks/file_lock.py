"""Lock a folder on a disk for one writer."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.errors import UserError

MAX_NOTE_BYTES = 4096


class FolderLock:
    """Hold the lock of a folder: a locked file beside it.

    Attributes:
        earlier_note: the note of the previous holder, if it was killed; empty otherwise.
    """

    def __init__(self, file: int, earlier_note: str) -> None:
        self.earlier_note = earlier_note
        self._file = file

    def note(self, text: str) -> None:
        """Write a note into the lock file, for the next holder in case this process is killed."""
        data = json.dumps({"locked_by": "reidray", "note": text}).encode() + b"\n"
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, data, 0)


@contextmanager
def lock_folder(folder: Path) -> Iterator[FolderLock]:
    """Hold the lock of a folder while the block runs; the system releases it if the process dies.

    The lock is a hidden file beside the folder, whose parents are made.

    Raises:
        UserError: another process holds the lock, the lock cannot be written, or a file of another
            kind has its name.
    """
    name = _lock_file(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(name)
    except BlockingIOError:
        raise UserError(
            f"{folder}: another run is writing it; wait for its end, or name another place"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}: {name}); choose another place"
        ) from None
    try:
        lock = FolderLock(file, _earlier_note(file, name))
    except UserError:
        os.close(file)
        raise
    try:
        yield lock
    finally:
        name.unlink(missing_ok=True)
        os.close(file)


def check_lock_file(folder: Path) -> None:
    """Check that no file of another kind has the name of a folder's lock.

    Raises:
        UserError: such a file exists; the message names it.
        OSError: the file cannot be read.
    """
    name = _lock_file(folder)
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        _earlier_note(file, name)
    finally:
        os.close(file)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _earlier_note(file: int, name: Path) -> str:
    """Return the note in a lock file; empty where there is none.

    Raises:
        UserError: the file is not a lock of this project, so that its contents would be lost.
    """
    is_regular = stat.S_ISREG(os.fstat(file).st_mode)
    data = os.pread(file, MAX_NOTE_BYTES, 0) if is_regular else b"a pipe"
    if not data:
        return ""
    try:
        found = json.loads(data)
        if found["locked_by"] == "reidray":
            return str(found["note"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{name}: is not the lock of a run; move this file away, or name another place")


def _lock(name: Path) -> int:
    """Open a lock file, lock it, and return its descriptor.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file between `open` and `flock`.
            if name.exists() and os.path.samestat(os.fstat(file), name.stat()):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
