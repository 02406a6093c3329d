"""Write files under new names, so that they appear whole or not at all."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from reidray.errors import UserError
from reidray.storage import object_store
from reidray.storage.location import Location
from reidray.storage.output_checks import check_object_key, check_writable_folder
from reidray.storage.publishing import check_outside_outputs
from reidray.storage.staging import temporary_folder


def check_new_file(field: str, uri: str) -> None:
    """Check, before any work, that a new file can be written. Leave nothing behind.

    Args:
        field: the field that names the file.
        uri: a local path, or `s3://bucket/key`.

    Raises:
        UserError: the file exists, or its folder cannot be written.
    """
    location = Location(uri)
    if location.is_dir():
        raise UserError(f"`{field}` {location.uri}: is a folder, expected the name of a new file")
    if location.exists() or Path(location.uri).is_symlink():
        raise UserError(f"`{field}` {location.uri}: exists; choose another name, or delete it")
    check_outside_outputs(location)
    if location.is_remote:
        check_object_key(location)
    else:
        check_writable_folder(Path(location.uri).parent, locked=False)


@contextmanager
def new_file(field: str, uri: str) -> Iterator[Path]:
    """Yield the path of a local file that appears at an address when the block succeeds.

    On a disk it lies hidden beside the new file, and takes its name in one step. If the block
    fails, nothing is left.

    Args:
        field: the field that names the file.
        uri: a local path, or `s3://bucket/key`.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    check_new_file(field, uri)
    location = Location(uri)
    with _staged(location) as staged:
        yield staged
        check_new_file(field, uri)
        try:
            _publish(staged, location)
        except OSError as error:
            reason = object_store.describe_error(error)
            raise UserError(f"`{field}` {location.uri}: cannot be written ({reason})") from error


@contextmanager
def _staged(location: Location) -> Iterator[Path]:
    """Yield the path of a temporary file, on the disk of a local address."""
    if location.is_remote:
        with temporary_folder() as folder:
            yield folder / location.name
        return
    target = Path(location.uri)
    folder = next(parent for parent in target.parents if parent.exists())
    staged = folder / f".{target.stem}.{token_hex(4)}.part{target.suffix}"
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _publish(file: Path, location: Location) -> None:
    """Give a file its address: move it on a disk, or upload it, of any size, as one object."""
    if not location.is_remote:
        Path(location.uri).parent.mkdir(parents=True, exist_ok=True)
        file.replace(location.uri)
        return
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        location.parent.write_bytes(location.name, view)
