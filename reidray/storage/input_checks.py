"""Check, before anything expensive, that what a job is to read is there."""

import os
from collections.abc import Sequence
from pathlib import Path

from reidray.errors import UserError
from reidray.storage.location import Location


def check_folder(flag: str, uri: str | None, *, holds: Sequence[str] = ()) -> None:
    """Refuse a folder that is missing or empty.

    Args:
        flag: what the folder was named by.
        uri: a local path or `s3://` address; None is not checked.
        holds: files that must lie in it.

    Raises:
        UserError: names the flag, and says what is wrong.
    """
    if uri is None:
        return
    location = _locate(flag, uri)
    if not location.is_dir():
        if location.is_file():
            raise UserError(f"{flag} {location.uri}: is a file, expected a folder")
        raise _missing(flag, location, "folder")
    if not location.is_remote:
        _check_not_empty(flag, location)
    for name in holds:
        if not location.join(name).is_file():
            raise UserError(
                f"{flag} {location.uri}: has no {name}; give a model directory, RUN/model of a "
                "training run"
            )


def check_data(flag: str, uri: str | None) -> None:
    """Refuse a folder of images, or a manifest, that is missing or empty.

    Raises:
        UserError: names the flag, and says what is wrong.
    """
    if uri is None:
        return
    location = _locate(flag, uri)
    if location.is_dir():
        check_folder(flag, uri)
    elif not location.is_file():
        raise _missing(flag, location, "folder or manifest")


def check_file(flag: str, uri: str | None) -> None:
    """Refuse a file that is missing.

    Raises:
        UserError: names the flag, and says what is wrong.
    """
    if uri is None:
        return
    location = _locate(flag, uri)
    if location.is_dir():
        raise UserError(f"{flag} {location.uri}: is a folder, expected a file")
    if not location.exists():
        raise _missing(flag, location, "file")


def _locate(flag: str, uri: str) -> Location:
    """Return the place of an address.

    Raises:
        UserError: it is none.
    """
    if not uri.strip():
        raise UserError(f"{flag} '': expected a local path or s3://bucket/prefix")
    return Location(uri)


def _missing(flag: str, location: Location, kind: str) -> UserError:
    """Return the error about something that is not there, with the part of its address that is."""
    if location.is_remote:
        bucket = location
        while "/" in bucket.path:
            bucket = bucket.parent
        if bucket.is_dir():
            return UserError(f"{flag} {location.uri}: no such {kind} in the bucket {bucket.path}")
        return UserError(f"{flag} {location.uri}: no such bucket as {bucket.path}")
    if Path(location.path).exists():
        return UserError(f"{flag} {location.uri}: is a pipe or a device, expected a {kind}")
    lacking = location
    while not lacking.parent.exists():
        lacking = lacking.parent
    where = f"; {lacking.parent.uri} has no {lacking.name}" if lacking != location else ""
    return UserError(f"{flag} {location.uri}: no such {kind}{where}")


def _check_not_empty(flag: str, location: Location) -> None:
    try:
        with os.scandir(location.uri) as entries:
            if next(entries, None) is None:
                raise UserError(f"{flag} {location.uri}: the folder is empty")
    except OSError as error:
        raise UserError(f"{flag} {location.uri}: cannot be read ({error.strerror})") from None
