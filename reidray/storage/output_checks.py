"""Check, before anything expensive, that an output can be written where it is to appear."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.locks.file_lock import check_lock_file

ADDED_TO_NAME = len("..12345678.staging.old")
"""Characters by which the name of a folder beside an output may be longer than the output's."""

LONGEST_KEY = 1024
LONGEST_PATH_WITHIN = 200
"""Characters that the path of a file within an output may have at most."""


def check_output_folder(folder: Path) -> None:
    """Refuse a folder on a disk that a new one beside it cannot replace. Leaves nothing behind.

    Args:
        folder: the place of an output; it need not be there.

    Raises:
        UserError: says what is wrong with the place.
    """
    with _told_in_a_line(folder):
        target = _check_folder(folder)
        if target.exists() and is_mount_point(target):
            raise UserError(
                f"{folder}: is a mount point, which cannot be replaced in one step; name a folder "
                f"in it, such as {folder / 'scores'}"
            )
        _try_to_write(_nearest(target.parent), target.name)
        check_lock_file(target)


def check_writable_folder(folder: Path, *, locked: bool) -> None:
    """Refuse a folder on a disk within which files cannot be written. Leaves nothing behind.

    Args:
        folder: it need not be there.
        locked: a lock is written beside it.

    Raises:
        UserError: says what is wrong with the place.
    """
    with _told_in_a_line(folder):
        target = _check_folder(folder)
        _try_to_write(_nearest(target), target.name)
        if locked:
            _try_to_write(_nearest(target.parent), target.name)
            check_lock_file(target)


@contextmanager
def _told_in_a_line(folder: Path) -> Iterator[None]:
    """Tell of a disk's error as of a user's mistake."""
    try:
        yield
    except OSError as error:
        at = f": {error.filename}" if error.filename else ""
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}{at}); choose another place"
        ) from None


def check_object_key(location: Location) -> None:
    """Refuse an address of an object store below which keys cannot be written.

    Raises:
        UserError: it is too long, or a part of it is empty.
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


def check_disjoint(output: tuple[str, str], others: Mapping[str, str | None]) -> None:
    """Refuse an output that lies in another folder of a job, or holds one.

    Args:
        output: the flag that names the output, and its address.
        others: addresses by their flags; None where there is none.

    Raises:
        UserError: names both.
    """
    flag, uri = output
    place = _parts(uri)
    for other_flag, other in others.items():
        if other is None:
            continue
        other_place = _parts(other)
        if place == other_place:
            relation = "is the same as"
        elif place[: len(other_place)] == other_place:
            relation = "lies in"
        elif other_place[: len(place)] == place:
            relation = "holds"
        else:
            continue
        raise UserError(
            f"{flag} {uri} {relation} {other_flag} {other}, whose files would be mixed with the "
            "output; choose a folder outside"
        )


def is_mount_point(folder: Path) -> bool:
    """Tell whether a folder is one at which a disk, or another folder, is mounted."""
    if os.path.ismount(folder):
        return True
    mounts = _mount_of(folder), _mount_of(folder.parent)
    return None not in mounts and mounts[0] != mounts[1]


def _mount_of(folder: Path) -> str | None:
    """Return the number of the mount that a folder lies on; None where the system does not tell.

    Unlike the number of its device, it tells a folder that is mounted again elsewhere on a disk.
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
    """Refuse what is at the place of a folder, where a folder cannot be written.

    Returns:
        The folder, once links are followed.
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
    """Return the folder, or the nearest above it that is there."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _try_to_write(folder: Path, name: str) -> None:
    """Make and remove a hidden folder."""
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder):
        pass


def _parts(uri: str) -> tuple[str, ...]:
    """Return the parts of an address as they are once links are followed."""
    location = Location(uri)
    if location.is_remote:
        return ("s3://", *(part for part in location.path.split("/") if part))
    return Path(os.path.realpath(location.uri)).parts
