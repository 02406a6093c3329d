"""Create and replace files exclusively, on a disk or in an object store.

A file appears whole, and only its owner may read it. `create` fails if the name is taken. In an
object store `replace` fails if another writer has written the file since. A process that is killed
while it writes to a disk leaves at most a hidden file, `.NAME.part`.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from reidray.storage.local_disk import naming_file
from reidray.storage.location import Location
from reidray.storage.locks.conditional_writes import create_object, object_state, replace_object
from reidray.storage.object_store import iter_pages
from reidray.storage.paths import key_of

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class FileEntry:
    """Hold the entry of a file in a listing.

    Attributes:
        path: the path relative to the location.
        size: the size in bytes.
        tag: the ETag of an object, which changes whenever it is written; empty on a disk.
    """

    path: str
    size: int
    tag: str


def list_entries(location: Location, folder: str) -> list[FileEntry]:
    """Return the entries of all files below a folder, including hidden files, sorted by path.

    The list of a folder that does not exist is empty.

    Args:
        location: the root of the paths.
        folder: the folder within it.

    Raises:
        OSError: the disk or the object store failed.
    """
    if location.is_remote:
        return sorted(_list_objects(location, folder), key=lambda file: file.path)
    root = Path(location.uri)
    return [
        FileEntry(file.relative_to(root).as_posix(), file.lstat().st_size, "")
        for file in sorted((root / folder).rglob("*"))
        if not file.is_dir()
    ]


def read_tag(location: Location, path: str) -> str | None:
    """Return the tag of a file, which `replace` needs; None if the file does not exist.

    Raises:
        OSError: the object store failed.
    """
    if location.is_remote:
        state = object_state(location.join(path).uri)
        return None if state is None else state.tag
    return "" if Path(location.uri, path).exists() else None


def create(location: Location, path: str, data: bytes) -> str | None:
    """Write a file if it does not exist.

    Args:
        location: the root of the path.
        path: the path of the file.
        data: its contents.

    Returns:
        The tag of the file; None if the file exists already.

    Raises:
        OSError: the disk or the object store failed.
    """
    if location.is_remote:
        return create_object(location.join(path).uri, data, uuid4().hex)
    Path(location.uri).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    file = Path(location.uri, path)
    staged = _stage(file, data)
    try:
        _claim(staged, file)
    except FileExistsError:
        return None
    finally:
        staged.unlink(missing_ok=True)
    _sync_folder(file.parent)
    return ""


def replace(location: Location, path: str, data: bytes, tag: str) -> str | None:
    """Replace a file that still has a tag.

    On a disk the caller must hold the lock of the folder, which replaces the check of the tag.

    Args:
        location: the root of the path.
        path: the path of the file.
        data: its new contents.
        tag: the tag of the file to replace.

    Returns:
        The new tag; None if another writer has written the file since it had the tag `tag`.

    Raises:
        OSError: the disk or the object store failed.
    """
    if location.is_remote:
        return replace_object(location.join(path).uri, data, tag, uuid4().hex)
    file = Path(location.uri, path)
    _stage(file, data).replace(file)
    _sync_folder(file.parent)
    return ""


def _stage(file: Path, data: bytes) -> Path:
    """Write the hidden file that becomes `file`, and wait until it is on the disk."""
    file.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    staged = file.with_name(f".{file.name}.part")
    staged.unlink(missing_ok=True)
    try:
        with naming_file(file), open(staged, "xb", opener=_open_privately) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _open_privately(name: str, flags: int) -> int:
    return os.open(name, flags, FILE_MODE)


def _claim(staged: Path, file: Path) -> None:
    """Give a staged file its name; fail if the name is taken."""
    try:
        file.hardlink_to(staged)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if file.exists():  # the lock of the folder keeps other writers away meanwhile
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file)) from None
        staged.rename(file)


def _sync_folder(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _list_objects(location: Location, folder: str) -> Iterator[FileEntry]:
    uri = location.join(folder).uri
    root = key_of(uri).removesuffix(folder)
    for page in iter_pages(uri, "list_objects_v2", Prefix=f"{key_of(uri)}/"):
        for entry in page.get("Contents", []):
            yield FileEntry(entry["Key"].removeprefix(root), entry["Size"], entry["ETag"])
