"""Find every file of a store, with old versions, and remove those that it must not keep."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.object_versions import (
    ObjectVersion,
    abort_uploads,
    delete_versions,
    list_uploads,
    list_versions,
)

_DAY = r"day=\d{4}-\d\d-\d\d"
_FOLDERS = rf"(parts|files|images/{_DAY}|embeddings/model=[^/]+/{_DAY})/"
"""Folders of a store; the last two are those of the earlier layout."""

_OWN = re.compile(
    r"parts/[0-9]{8}\.parquet|files/[0-9a-f]{32}\.parquet"
    rf"|(?!parts/|files/){_FOLDERS}[^/.][^/]*\.parquet"
    r"|forgotten\.jsonl|writing\.json"
)
_TEMPORARY = re.compile(rf"{_FOLDERS}\.[^/]+\.part|\.forgotten\.jsonl(\.[^/]+)?\.part")
_INSIDE = re.compile(_FOLDERS)


@dataclass(frozen=True)
class StoreFiles:
    """Hold the relative paths of the files of a store.

    Attributes:
        own: files that the store wrote.
        temporary: files that a killed run began to write.
        unknown: files that the store did not write.
        old_versions: versions of the store's objects that were replaced or deleted.
    """

    own: tuple[str, ...]
    temporary: tuple[str, ...]
    unknown: tuple[str, ...]
    old_versions: tuple[ObjectVersion, ...]


def find_files(location: Location) -> StoreFiles:
    """List every file under a store.

    Raises:
        UserError: a folder cannot be read, or the object store does not let old versions be listed.
    """
    versions: list[ObjectVersion] = []
    if location.is_remote:
        versions = list_versions(location)
        paths = [version.path for version in versions if version.is_current]
    else:
        try:
            paths = sorted(_walk(Path(location.uri)))
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    known = [path for path in paths if _is_own(path)]
    return StoreFiles(
        tuple(path for path in known if not _TEMPORARY.fullmatch(path)),
        tuple(path for path in known if _TEMPORARY.fullmatch(path)),
        tuple(path for path in paths if not _is_own(path)),
        tuple(
            version
            for version in versions
            if not version.is_current and (_is_own(version.path) or _INSIDE.match(version.path))
        ),
    )


def check_links(location: Location, unknown: Sequence[str]) -> None:
    """Check that the folders of a store are no links.

    Args:
        location: the store.
        unknown: `StoreFiles.unknown`.

    Raises:
        UserError: there is a link, whose target would not be searched.
    """
    for path in unknown:
        if _INSIDE.fullmatch(f"{path}/"):
            raise UserError(
                f"{location.join(path).uri}: is a link, or a file, where a store has a folder, and "
                "is not searched; put the folder itself there"
            )


def check_unknown_files(location: Location, unknown: Sequence[str]) -> None:
    """Check that the store wrote every file among its parts.

    Args:
        location: the store.
        unknown: `StoreFiles.unknown`.

    Raises:
        UserError: there is another file, which may hold embeddings.
    """
    inside = [path for path in unknown if _INSIDE.match(path)]
    if inside:
        raise UserError(
            f"{location.join(inside[0]).uri}: lies among the parts of the store and is none "
            f"({len(inside)} of them do); it may hold embeddings: delete it, or put it elsewhere"
        )


def remove_temporary(location: Location) -> None:
    """Remove the files that a killed run began to write on a disk.

    The caller is the only writer.
    """
    if not location.is_remote and Path(location.uri).is_dir():
        for path in find_files(location).temporary:
            location.delete_file(path)


def remove_remains(location: Location) -> int:
    """Remove temporary files, old versions and unfinished uploads of a store.

    The caller is the only writer.

    Returns:
        The number of files, versions and uploads that were removed.

    Raises:
        UserError: the object store does not let old versions be listed or removed.
        RuntimeError: something is still there.
    """
    found = find_files(location)
    uploads = list_uploads(location) if location.is_remote else []
    uploads = [upload for upload in uploads if _is_own(upload.path)]
    for path in found.temporary:
        location.delete_file(path)
    if location.is_remote:
        delete_versions(location, found.old_versions)
        abort_uploads(location, uploads)
    left = find_files(location)
    if left.temporary or any(version in found.old_versions for version in left.old_versions):
        raise RuntimeError(f"{location.uri}: holds files that could not be removed")
    return len(found.temporary) + len(found.old_versions) + len(uploads)


def remove_old_versions(location: Location, path: str) -> None:
    """Remove the old versions of one file of a store.

    Raises:
        UserError: the object store does not let old versions be listed or removed.
    """
    if location.is_remote:
        old = find_files(location).old_versions
        delete_versions(location, [version for version in old if version.path == path])


def _walk(root: Path) -> Iterator[str]:
    """Yield the relative paths of all files, and of links to folders.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    if root.is_dir():
        for folder, folders, names in os.walk(root, onerror=fail):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in [*names, *links]:
                yield Path(folder, name).relative_to(root).as_posix()


def _is_own(path: str) -> bool:
    return bool(_OWN.fullmatch(path) or _TEMPORARY.fullmatch(path))
