"""Check, before any expensive work, that the inputs of a job exist.

Each check takes the field that names the input, such as `data`, for the message of its error.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from reidray.config.sections.weight_names import NAMED_WEIGHTS, hub_repository
from reidray.errors import UserError
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.inputs.weight_headers import check_weight_header
from reidray.storage.location import Location

DESCRIPTION_FILE = "model.json"
"""File of a model directory that describes its network."""

NEEDED_MODEL_FILES = (DESCRIPTION_FILE,)
"""Files that a folder must hold to be a model directory."""

WEIGHTS_FILE = "model.safetensors"
"""File of a model directory that holds its weights."""


def check_folder(field: str, uri: str | None, *, holds: Sequence[str] = ()) -> None:
    """Check that a folder exists and is not empty.

    Args:
        field: the field that names the folder.
        uri: a local path or `s3://` address; None is not checked.
        holds: files that must lie in the folder.

    Raises:
        UserError: the folder is missing, empty, a file, or lacks one of the files.
    """
    if uri is None:
        return
    location = _locate(field, uri)
    if not _is_folder(location):
        if location.is_file():
            raise UserError(f"`{field}` {location.uri}: is a file, expected a folder")
        raise _missing(field, location, "folder")
    if not location.is_remote:
        _check_not_empty(field, location)
    for name in holds:
        if not location.join(name).is_file():
            raise UserError(
                f"`{field}` {location.uri}: has no {name}; give a model directory, RUN/model of a "
                "training run"
            )


def check_folders(
    field: str, uris: str | Sequence[str] | None, *, holds: Sequence[str] = ()
) -> None:
    """Check that one or more folders exist, as `check_folder` does, and that none is named twice.

    Raises:
        UserError: `check_folder` refuses a folder, or two are the same.
    """
    if uris is None:
        return
    seen: dict[str, str] = {}
    for each in [uris] if isinstance(uris, str) else uris:
        check_folder(field, each, holds=holds)
        _check_new(field, each, seen)


def check_data(field: str, uri: str | Sequence[str] | None) -> None:
    """Check that a folder of images, or a manifest file, exists and is not empty.

    Args:
        field: the field that names the data.
        uri: a local path or `s3://` address, or several; None is not checked.

    Raises:
        UserError: a folder or file is missing or named twice, or a folder is empty.
    """
    if uri is None:
        return
    seen: dict[str, str] = {}
    for each in [uri] if isinstance(uri, str) else uri:
        location = _locate(field, each)
        if _is_folder(location):
            check_folder(field, each)
        elif not location.is_file():
            raise _missing(field, location, "folder or manifest")
        _check_new(field, each, seen)


def check_file(field: str, uri: str | None) -> None:
    """Check that a file exists.

    Args:
        field: the field that names the file.
        uri: a local path or `s3://` address; None is not checked.

    Raises:
        UserError: the file is missing, or is a folder.
    """
    if uri is None:
        return
    location = _locate(field, uri)
    if _is_folder(location):
        raise UserError(f"`{field}` {location.uri}: is a folder, expected a file")
    if not location.exists():
        raise _missing(field, location, "file")


def check_weights(field: str, weights: str) -> None:
    """Check that weights to start from exist and have a whole header, on a disk or in a bucket.

    Args:
        field: the field that names the weights.
        weights: `none`, `imagenet`, a name on a hub, or a local path or `s3://` address.

    Raises:
        UserError: the file is missing, is no weights or has a damaged header, or the folder is no
            model directory.
    """
    if weights in NAMED_WEIGHTS or hub_repository(weights) is not None:
        return
    location = _locate(field, weights)
    if not _is_folder(location):
        check_file(field, weights)
        check_weight_header(field, location)
    elif location.join("model/model.json").is_file():
        raise UserError(
            f"`{field}` {location.uri}: is a run directory: give {location.join('model').uri}"
        )
    else:
        check_folder(field, weights, holds=(*NEEDED_MODEL_FILES, WEIGHTS_FILE))
        check_weight_header(field, location.join(WEIGHTS_FILE))


def _check_new(field: str, uri: str, seen: dict[str, str]) -> None:
    """Check that an address is none of those seen before, and add it to them.

    Args:
        field: the field that names the addresses.
        uri: the address.
        seen: the addresses as they are written, by the places that they name.

    Raises:
        UserError: the place is among them.
    """
    location = Location(uri)
    place = location.uri.rstrip("/") if location.is_remote else os.path.realpath(location.uri)
    if place in seen:
        written = uri if uri == seen[place] else f"{seen[place]} and {uri}"
        raise UserError(f"`{field}` names one place twice ({written}): give each once")
    seen[place] = uri


def _locate(field: str, uri: str) -> Location:
    """Return the location of an address.

    Raises:
        UserError: the address is empty or of an unknown kind.
    """
    if not uri.strip():
        raise UserError(f"`{field}` '': expected a local path or s3://bucket/prefix")
    return Location(uri)


def _is_folder(location: Location) -> bool:
    """Return whether an address is a folder, and show a line while a store does not answer."""
    with Activity(f"looking for {location.uri}", delay=SHOW_AFTER_SECONDS):
        return location.is_dir()


def _missing(field: str, location: Location, kind: str) -> UserError:
    """Return the error about a missing file or folder, with the part of its address that exists."""
    if location.is_remote:
        bucket = location
        while "/" in bucket.path:
            bucket = bucket.parent
        if bucket.is_dir():
            return UserError(
                f"`{field}` {location.uri}: no such {kind} in the bucket {bucket.path}"
            )
        return UserError(f"`{field}` {location.uri}: no such bucket as {bucket.path}")
    if Path(location.path).exists():
        return UserError(f"`{field}` {location.uri}: is a pipe or a device, expected a {kind}")
    missing = location
    while not missing.parent.exists():
        missing = missing.parent
    where = f"; {missing.parent.uri} has no {missing.name}" if missing != location else ""
    return UserError(f"`{field}` {location.uri}: no such {kind}{where}")


def _check_not_empty(field: str, location: Location) -> None:
    try:
        with os.scandir(location.uri) as entries:
            if next(entries, None) is None:
                raise UserError(f"`{field}` {location.uri}: the folder is empty")
    except OSError as error:
        raise UserError(f"`{field}` {location.uri}: cannot be read ({error.strerror})") from None
