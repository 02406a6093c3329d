"""Check, before any expensive work, that a job can write its output."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.locks.file_lock import check_lock_file

ADDED_TO_NAME = len("..12345678.staging.old")
"""Characters that the name of a hidden folder beside an output has more than the output's."""

LONGEST_KEY = 1024
"""Bytes that the key of an object has at most."""

LONGEST_PATH_WITHIN = 200
"""Characters that the path of a file within an output has at most."""


def check_output_folder(folder: Path) -> None:
    """Check that a new folder can replace a folder on a disk. Leave nothing behind.

    Args:
        folder: the output; it need not exist.

    Raises:
        UserError: the folder, or a file beside it, cannot be written, or it is a mount point.
    """
    with _as_user_error(folder):
        target = _check_folder(folder)
        if target.exists() and is_mount_point(target):
            raise UserError(
                f"{folder}: is a mount point, which cannot be replaced in one step; name a folder "
                f"in it, such as {folder / 'scores'}"
            )
        _try_to_write(_nearest(target.parent), target.name)
        check_lock_file(target)


def check_writable_folder(folder: Path, *, locked: bool) -> None:
    """Check that files can be written in a folder on a disk. Leave nothing behind.

    Args:
        folder: the folder; it need not exist.
        locked: whether the job also writes a lock beside the folder.

    Raises:
        UserError: the folder cannot be written.
    """
    with _as_user_error(folder):
        target = _check_folder(folder)
        _try_to_write(_nearest(target), target.name)
        if locked:
            _try_to_write(_nearest(target.parent), target.name)
            check_lock_file(target)


@contextmanager
def _as_user_error(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into a `UserError` of one line."""
    try:
        yield
    except OSError as error:
        at = f": {error.filename}" if error.filename else ""
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}{at}); choose another place"
        ) from None


def check_object_key(location: Location) -> None:
    """Check that an object store can hold keys below an address.

    Raises:
        UserError: the address is too long, or a part of it is empty.
    """
    key = location.path.partition("/")[2]
    if "//" in f"/{key}":
        raise UserError(
            f"{location.uri}: a folder in this address has no name; write single slashes"
        )
    if len(key.encode()) + LONGEST_PATH_WITHIN > LONGEST_KEY:
        raise UserError(
            f"{location.uri}: is too long, the keys of an object store have at most "
            f"{LONGEST_KEY} bytes; choose a shorter one"
        )


def check_disjoint(field: str, uri: str, others: Mapping[str, str | Sequence[str] | None]) -> None:
    """Check that an output neither lies in another folder of a job nor holds one.

    Args:
        field: the field that names the output.
        uri: the address of the output.
        others: the other addresses by their fields, one or more for each; None is not checked.

    Raises:
        UserError: two of the folders overlap; the message names both.
    """
    parts = _parts(uri)
    named = [
        (other_field, other)
        for other_field, given in others.items()
        for other in ([given] if isinstance(given, str) else given or ())
    ]
    for other_field, other in named:
        other_parts = _parts(other)
        if parts == other_parts:
            relation = "is the same as"
        elif parts[: len(other_parts)] == other_parts:
            relation = "lies in"
        elif other_parts[: len(parts)] == parts:
            relation = "holds"
        else:
            continue
        raise UserError(
            f"`{field}` {uri} {relation} `{other_field}` {other}, whose files would be mixed with "
            "the output; choose a folder outside"
        )


def is_mount_point(folder: Path) -> bool:
    """Return whether a disk, or another folder, is mounted at a folder."""
    if os.path.ismount(folder):
        return True
    mounts = _mount_id(folder), _mount_id(folder.parent)
    return None not in mounts and mounts[0] != mounts[1]


def _mount_id(folder: Path) -> str | None:
    """Return the id of the mount that a folder lies on; None where the system has none.

    Unlike a device number, the id changes where a folder of the same disk is mounted again.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lines = Path(f"/proc/self/fdinfo/{opened}").read_text().splitlines()
    except FileNotFoundError:
        return None
    finally:
        os.close(opened)
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), None)


def _check_folder(folder: Path) -> Path:
    """Check that a folder exists, or can be made, under this name.

    Returns:
        The folder, with links followed.
    """
    folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - keeps links
    if folder.is_symlink() and not folder.exists():
        raise UserError(
            f"{folder}: is a link to {folder.readlink()}, which is not there; remove the link, or "
            "make the folder that it names"
        )
    above = _nearest(folder)
    if not above.is_dir():
        raise UserError(f"{above}: is a file, expected a folder to write; choose another")
    target = Path(os.path.realpath(folder))
    limits = os.pathconf(above, "PC_NAME_MAX"), os.pathconf(above, "PC_PATH_MAX")
    names = [len(os.fsencode(part)) for part in target.parts]
    longest = max(*names, names[-1] + ADDED_TO_NAME)
    if longest > limits[0] or len(os.fsencode(target)) + LONGEST_PATH_WITHIN > limits[1]:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return target


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest folder above it that exists."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _try_to_write(folder: Path, name: str) -> None:
    """Make a hidden folder in a folder, and remove it."""
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder):
        pass


def _parts(uri: str) -> tuple[str, ...]:
    """Return the parts of an address, with links followed."""
    location = Location(uri)
    if location.is_remote:
        return ("s3://", *(part for part in location.path.split("/") if part))
    return Path(os.path.realpath(location.uri)).parts
