"""Every file under a store, old versions too, and which of them a store may keep."""

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
_FOLDERS = rf"(parts|images/{_DAY}|embeddings/model=[^/]+/{_DAY})/"
"""Folders that are a store's own; the last two are those of stores of the earlier layout."""

_OWN = re.compile(
    rf"parts/[0-9]{{8}}\.parquet|(?!parts/){_FOLDERS}[^/.][^/]*\.parquet"
    r"|forgotten\.jsonl|writing\.json"
)
_TEMPORARY = re.compile(rf"{_FOLDERS}\.[^/]+\.part|\.forgotten\.jsonl(\.[^/]+)?\.part")
_INSIDE = re.compile(_FOLDERS)


@dataclass(frozen=True)
class StoreFiles:
    """The files under a store.

    Attributes:
        own: relative paths of the store's files.
        temporary: of files that a killed run began to write.
        others: of files that the store did not write.
        old: versions of the store's objects that were replaced or deleted.
    """

    own: tuple[str, ...]
    temporary: tuple[str, ...]
    others: tuple[str, ...]
    old: tuple[ObjectVersion, ...]


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


def check_links(location: Location, others: Sequence[str]) -> None:
    """Refuse links in the place of a store's own folders.

    Raises:
        UserError: there is one; what it leads to is not searched.
    """
    for path in others:
        if _INSIDE.fullmatch(f"{path}/"):
            raise UserError(
                f"{location.join(path).uri}: is a link, or a file, where a store has a folder, and "
                "is not searched; put the folder itself there"
            )


def check_others(location: Location, others: Sequence[str]) -> None:
    """Refuse files among the parts that the store did not write.

    Raises:
        UserError: there is one, and nobody knows what it holds.
    """
    inside = [path for path in others if _INSIDE.match(path)]
    if inside:
        raise UserError(
            f"{location.join(inside[0]).uri}: lies among the parts of the store and is none "
            f"({len(inside)} of them do); it may hold embeddings: delete it, or put it elsewhere"
        )


def remove_temporary(location: Location) -> None:
    """Remove what a killed run began to write on a disk; the caller is the only writer."""
    if not location.is_remote and Path(location.uri).is_dir():
        for path in find_files(location).temporary:
            location.delete_file(path)


def remove_old(location: Location) -> int:
    """Remove all that a store no longer refers to; the caller is the only writer.

    Returns:
        How many files, versions and unfinished uploads were removed.

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
        delete_versions(location, found.old)
        abort_uploads(location, uploads)
    left = find_files(location)
    if left.temporary or any(version in found.old for version in left.old):
        raise RuntimeError(f"{location.uri}: holds files that could not be removed")
    return len(found.temporary) + len(found.old) + len(uploads)


def remove_old_versions(location: Location, path: str) -> None:
    """Remove the old versions of one file of a store.

    Raises:
        UserError: the object store does not let old versions be listed or removed.
    """
    if location.is_remote:
        old = find_files(location).old
        delete_versions(location, [version for version in old if version.path == path])


def _walk(root: Path) -> Iterator[str]:
    """The relative paths of all files, links to folders included.

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
