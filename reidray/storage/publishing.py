"""Publish a job's output as a folder that changes in one step, on a disk or in an object store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

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
from reidray.storage.staging import atomic_folder, check_replaceable

OUTPUT_MARKS = (("scoring.json", "reid_test.txt"), ("evaluation.json", "per_query.csv"))
"""Files that tell the output of a nightly run, and of an evaluation, on a disk."""


@contextmanager
def exclusive_writer(location: Location) -> Iterator[None]:
    """Keep everybody else from writing a folder, on a disk or in an object store.

    Raises:
        UserError: somebody else is writing it, or it cannot be written.
    """
    if location.is_remote:
        with lock_location(location):
            yield
    else:
        with lock_folder(
            Path(os.path.realpath(location.uri))
        ):  # one lock, whichever link leads here
            yield


def check_output(
    uri: str, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> None:
    """Refuse, before any work, a place where `atomic_output` could not publish.

    Raises:
        UserError: the place cannot be written, or holds something else than an earlier output.
    """
    location = Location(uri)
    check_outside_outputs(location)
    if not location.is_remote:
        check_output_folder(Path(location.uri))
        check_replaceable(Path(location.uri), replaces, summary)
        return
    with _told_in_a_line(location):
        check_contents(location, replaces, summary)


def check_store(uri: str) -> None:
    """Refuse, before any work, a place where files cannot be kept from run to run.

    Raises:
        UserError: says what is wrong with the place.
    """
    location = Location(uri)
    check_outside_outputs(location)
    if not location.is_remote:
        check_writable_folder(Path(location.uri), locked=True)
        holds_output = _is_output(Path(location.uri))
    else:
        with _told_in_a_line(location):
            next(list_level(location, ""), None)
            holds_output = _is_remote_output(location)
    if holds_output:
        raise UserError(
            f"{location.uri}: is an output of scoring or evaluation, which the next run could not "
            "replace; choose another folder"
        )


def check_outside_outputs(location: Location) -> None:
    """Refuse a place within an output, which the next run would replace, or would refuse to.

    Raises:
        UserError: names the output.
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
    """Tell whether runs are published at an address; if it may not be read, nobody can tell."""
    try:
        return read_latest(location) is not None
    except OSError:
        return False


def _is_output(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names) for names in OUTPUT_MARKS)


@contextmanager
def _told_in_a_line(location: Location) -> Iterator[None]:
    """Tell of an object store's error as of a user's mistake."""
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
    """A folder to write in, whose files all appear at an address when the block succeeds.

    A reader of the address sees the files of the earlier output or those of this one, never some of
    both. When the block fails, the earlier output stays.

    Args:
        uri: a local folder, or `s3://bucket/prefix`, which must be new, empty or an earlier output.
        replaces: the files an earlier output may consist of.
        summary: the one of them that every output has; None where there is no such file.

    Raises:
        UserError: the place cannot be written, holds something else, or another run is writing it.
    """
    location = Location(uri)
    if not location.is_remote:
        with atomic_folder(Path(location.uri), replaces, summary) as staging:
            yield staging
        return
    check_output(uri, replaces, summary)
    with lock_location(location) as lock, TemporaryDirectory() as folder:
        yield Path(folder)
        lock.check()
        check_output(uri, replaces, summary)
        publish_run(Path(folder), location, lock.check)
