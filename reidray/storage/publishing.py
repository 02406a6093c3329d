"""Publish the output of a job in one step, on a disk or in an object store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidray.errors import UserError
from reidray.storage import object_store
from reidray.storage.bucket_runs import check_contents, list_level, publish_run, read_latest
from reidray.storage.location import Location
from reidray.storage.locks.file_lock import lock_folder
from reidray.storage.locks.object_lock import lock_location
from reidray.storage.output_checks import (
    check_object_key,
    check_output_folder,
    check_writable_folder,
)
from reidray.storage.staging import atomic_folder, check_replaceable, temporary_folder

OUTPUT_MARKS = (("scoring.json", "reid_test.txt"), ("evaluation.json", "per_query.csv"))
"""Files by which the output of a nightly run, and of an evaluation, is recognised on a disk."""


@contextmanager
def exclusive_writer(location: Location) -> Iterator[None]:
    """Hold the lock of a folder, on a disk or in an object store, while the block runs.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """
    if location.is_remote:
        with lock_location(location):
            yield
    else:
        # Every link to the folder leads to the same lock.
        with lock_folder(Path(os.path.realpath(location.uri))):
            yield


def check_output(
    uri: str, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> None:
    """Check, before any work, that `atomic_output` can publish at an address.

    Args:
        uri: a local folder, or `s3://bucket/prefix`.
        replaces: the files that an earlier output may consist of.
        summary: the file that every output has; None where there is no such file.

    Raises:
        UserError: the address cannot be written, or holds other files than an earlier output.
    """
    location = Location(uri)
    check_outside_outputs(location)
    if not location.is_remote:
        check_output_folder(Path(location.uri))
        check_replaceable(Path(location.uri), replaces, summary)
        return
    with _as_user_error(location):
        check_contents(location, replaces, summary)


def check_store(uri: str) -> None:
    """Check, before any work, that an address can hold files that stay from run to run.

    Args:
        uri: a local folder, or `s3://bucket/prefix`.

    Raises:
        UserError: the address cannot be written, or is or lies in an output.
    """
    location = Location(uri)
    check_outside_outputs(location)
    if not location.is_remote:
        check_writable_folder(Path(location.uri), locked=True)
        holds_output = _is_output(Path(location.uri))
    else:
        with _as_user_error(location):
            next(list_level(location, ""), None)
            holds_output = _is_remote_output(location)
    if holds_output:
        raise UserError(
            f"{location.uri}: is an output of scoring or evaluation, which the next run could not "
            "replace; choose another folder"
        )


def check_outside_outputs(location: Location) -> None:
    """Check that a location does not lie within an output, which the next run would replace.

    Raises:
        UserError: the location lies in an output; the message names the output.
    """
    if location.is_remote:
        check_object_key(location)
        found = next(
            (folder.uri for folder in _folders_above(location) if _is_remote_output(folder)), None
        )
    else:
        parents = Path(os.path.realpath(location.uri)).parents
        found = next((str(folder) for folder in parents if _is_output(folder)), None)
    if found is not None:
        raise UserError(
            f"{location.uri}: lies in {found}, an output that is replaced as a whole; choose a "
            "folder outside"
        )


def _folders_above(location: Location) -> Iterator[Location]:
    while "/" in location.path:
        location = location.parent
        yield location


def _is_remote_output(location: Location) -> bool:
    """Return whether runs are published at an address; False if it may not be read."""
    try:
        return read_latest(location) is not None
    except OSError:
        return False


def _is_output(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names) for names in OUTPUT_MARKS)


@contextmanager
def _as_user_error(location: Location) -> Iterator[None]:
    """Turn errors of the object store into a `UserError` of one line."""
    try:
        yield
    except OSError as error:
        reason = object_store.redact_secrets(" ".join(str(error).split()))
        raise UserError(
            f"{location.uri}: cannot be written ({reason}); check the address and the "
            "AWS_ variables"
        ) from None


@contextmanager
def atomic_output(
    uri: str, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> Iterator[Path]:
    """Yield a local folder whose files all appear at an address when the block succeeds.

    A reader of the address sees the files of the earlier output or those of the new one, never a
    mixture. If the block fails, the earlier output stays.

    Args:
        uri: a local folder, or `s3://bucket/prefix`, which must be new, empty or an earlier output.
        replaces: the files that an earlier output may consist of.
        summary: the file that every output has; None where there is no such file.

    Raises:
        UserError: the address cannot be written, holds other files, or another run is writing it.
    """
    location = Location(uri)
    if not location.is_remote:
        with atomic_folder(Path(location.uri), replaces, summary) as staging:
            yield staging
        return
    check_output(uri, replaces, summary)
    with lock_location(location) as lock, temporary_folder() as folder:
        yield folder
        lock.check_held()
        check_output(uri, replaces, summary)
        publish_run(folder, location, lock.check_held)
