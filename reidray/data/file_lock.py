"""One writer at a time for a folder on a disk."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.errors import UserError


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep everybody else from writing a folder; a process that is killed lets go of it.

    The lock is a hidden file beside the folder, whose parents are made.

    Raises:
        UserError: somebody else is writing it, or there is no writing beside it.
    """
    name = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(name)
    except BlockingIOError:
        raise UserError(
            f"{folder}: another run is writing it; wait for its end, or name another place"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); choose another place"
        ) from None
    try:
        yield
    finally:
        name.unlink(missing_ok=True)
        os.close(file)


def _lock(name: Path) -> int:
    """The lock file, open and locked.

    Raises:
        BlockingIOError: somebody else has locked it.
    """
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have removed it between its opening and its locking here.
            if name.exists() and os.path.samestat(os.fstat(file), name.stat()):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
