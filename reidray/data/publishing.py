"""Where a job's output goes: a folder that changes in one step, on a disk or in an object store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reidray.data import object_store
from reidray.data.bucket_runs import check_contents, publish_run
from reidray.data.file_lock import only_writer
from reidray.data.output_checks import check_key_length, check_replaced_folder
from reidray.data.outputs import check_replaceable, staged_directory
from reidray.data.storage import Location
from reidray.data.store_lock import writing_alone
from reidray.errors import UserError


@contextmanager
def only_writer_of(location: Location) -> Iterator[None]:
    """Keep everybody else from writing a folder, on a disk or in an object store.

    Raises:
        UserError: somebody else is writing it, or it cannot be written.
    """
    if location.is_remote:
        with writing_alone(location):
            yield
    else:
        with only_writer(Path(location.uri)):
            yield


def check_output(
    uri: str, replaces: frozenset[str] = frozenset(), summary: str | None = None
) -> None:
    """Refuse, before any work, a place where `published_folder` could not publish.

    Raises:
        UserError: the place cannot be written, or holds something else than an earlier output.
    """
    location = Location(uri)
    if not location.is_remote:
        check_replaced_folder(Path(location.uri))
        check_replaceable(Path(location.uri), replaces, summary)
        return
    check_key_length(location)
    try:
        check_contents(location, replaces, summary)
    except OSError as error:
        reason = object_store.without_secrets(" ".join(str(error).split()))
        raise UserError(
            f"{location.uri}: cannot be written ({reason}); check the address and the "
            "AWS_ variables"
        ) from None


@contextmanager
def published_folder(
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
        with staged_directory(Path(location.uri), replaces, summary) as staging:
            yield staging
        return
    check_output(uri, replaces, summary)
    with writing_alone(location) as lock, TemporaryDirectory() as folder:
        yield Path(folder)
        lock.check()
        check_output(uri, replaces, summary)
        publish_run(Path(folder), location, lock.check)
