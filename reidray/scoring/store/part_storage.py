"""Store numbered parts on a disk, in a bucket or in a temporary file.

A part holds rows, or lists files of rows, or of a ranking, that workers have written. Such files do
not belong to the store before a part lists them. A writer adds a part under the next number, which
only one writer can claim. A writer that was paused, and does not know that it has lost the lock of
the store, finds its next number taken, and nothing that it writes appears. A number is never free
again: a part from which everything is deleted becomes empty.
"""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar
from uuid import uuid4

import pyarrow as pa

from reidray.errors import UserError
from reidray.scoring.store.kept_ranking import KeptRanking
from reidray.scoring.store.part_file import CommittedFiles, PartSummary, read_summary
from reidray.storage.location import Location
from reidray.storage.locks import exclusive_files

Content = TypeVar("Content")

_logger = logging.getLogger(__name__)

PARTS_FOLDER, FILES_FOLDER = "parts", "files"
_CONCURRENT_READS = 16
_DAMAGE = (pa.ArrowException, KeyError, TypeError, ValueError, RecursionError, OSError)
"""Errors that a damaged file, or a file that is no part, causes."""

_PART = re.compile(rf"{PARTS_FOLDER}/([0-9]{{8}})\.parquet")


@dataclass(frozen=True)
class Part:
    """Describe a part of a store, or a file that a part lists.

    Attributes:
        path: path relative to the store.
        size: bytes; 0 where everything in it is deleted.
        tag: version in an object store, which changes with every write.
        summary: description of its rows; None where it holds none, but a deletion.
    """

    path: str
    size: int
    tag: str = ""
    summary: PartSummary | None = None


@dataclass(frozen=True)
class RankingPart:
    """Hold a ranking that a store keeps.

    Attributes:
        part: the part that lists its files.
        ranking: the ranking.
        is_whole: whether it could be read, and all files are there with their sizes.
    """

    part: Part
    ranking: KeptRanking
    is_whole: bool

    def may_be_of(self, queries: str, gallery: str) -> bool:
        """Return whether this is a ranking of two folders, or a damaged one of any."""
        of = self.ranking.queries, self.ranking.gallery
        return of == (queries, gallery) or self.ranking.is_damaged


@dataclass(frozen=True)
class StoredParts:
    """Hold the parts of a store that are not empty, in the order of writing.

    Attributes:
        parts: the parts with rows and deletions; the files that a part lists take its place.
        rankings: the rankings.
    """

    parts: tuple[Part, ...] = ()
    rankings: tuple[RankingPart, ...] = ()


class PartStorage(ABC):
    """Store parts one after the other.

    Attributes:
        uri: address of the parts, for messages.
        is_temporary: whether the parts disappear at the end of the run.
    """

    uri: str
    is_temporary = False

    @abstractmethod
    def scan(self) -> StoredParts:
        """Return the parts that are not empty.

        Raises:
            UserError: a part is damaged.
            OSError: the disk or the object store failed.
        """

    def find(self) -> list[Part]:
        """Return the parts with rows and the deletions (see `scan`)."""
        return list(self.scan().parts)

    @abstractmethod
    def read(self, part: Part, reader: Callable[[pa.NativeFile], Content]) -> Content:
        """Return the result of a function that reads the file of a part.

        Raises:
            UserError: the part is damaged, holds something else, or has become empty.
            OSError: the disk or the object store failed.
        """

    @abstractmethod
    def append(self, data: bytes) -> Part:
        """Add a part in one step.

        Raises:
            UserError: another run writes the store.
            OSError: the disk or the object store failed.
        """

    @abstractmethod
    def replace(self, part: Part, data: bytes) -> Part:
        """Replace the bytes of a part in one step; no bytes make it empty.

        Raises:
            UserError: another run writes the store.
            OSError: the disk or the object store failed.
        """

    def taken_over(self) -> UserError:
        """Return the error about parts that another run has changed."""
        return UserError(
            f"{self.uri}: another run began to write it, as this one had not been heard of; run it "
            "again"
        )


class PartFolder(PartStorage):
    """Store parts in a folder on a disk or in an object store.

    Attributes:
        location: the folder of the store.
    """

    def __init__(self, location: Location) -> None:
        self.location, self.uri = location, location.uri
        self._next = 0

    def scan(self) -> StoredParts:
        """Return the parts that are not empty (see `PartStorage.scan`)."""
        found: list[Part] = []
        rankings: list[RankingPart] = []
        contents = self._read_all(self._list_parts(), read_summary)
        entries = exclusive_files.list_entries(self.location, FILES_FOLDER)
        files = {entry.path: Part(entry.path, entry.size, entry.tag) for entry in entries}
        for part, content in contents:
            if isinstance(content, KeptRanking):
                sizes = {path: file.size for path, file in files.items()}
                are_there = all(sizes.get(file.path) == file.size for file in content.files)
                is_whole = are_there and not content.is_damaged
                rankings.append(RankingPart(part, content, is_whole))
                continue
            if not isinstance(content, CommittedFiles):
                summary = content if isinstance(content, PartSummary) else None
                found.append(replace(part, summary=summary))
                continue
            missing = [name for name in content.names if name not in files]
            if missing:
                _logger.warning(
                    "%s: %d files that %s lists are not there, %s the first; what they held is "
                    "embedded again",
                    self.uri,
                    len(missing),
                    part.path,
                    missing[0],
                )
            present = [files[name] for name in content.names if name in files]
            listed = [file for file in present if file.size]
            for file, described in self._read_all(listed, read_summary):
                assert isinstance(described, PartSummary)
                found.append(replace(file, summary=described))
        return StoredParts(tuple(found), tuple(rankings))

    def read(self, part: Part, reader: Callable[[pa.NativeFile], Content]) -> Content:
        """Return the result of a function that reads a part (see `PartStorage.read`)."""

        def read(file: pa.NativeFile) -> Content:
            if not file.size():
                raise self.taken_over()
            return reader(file)

        try:
            return self.location.read_with(part.path, read)
        except _DAMAGE as error:
            if isinstance(error, OSError):  # Arrow raises it for damage too: can it be read at all?
                self.location.read_bytes(part.path)
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.location.join(part.path).uri}: is not a part of a store ({reason}); remove "
                "it and run again: a nightly run embeds again what it held"
            ) from error

    def append(self, data: bytes) -> Part:
        """Add a part in one step (see `PartStorage.append`)."""
        part = self._claim(data)
        if part is None:
            raise self.taken_over()
        return part

    def replace(self, part: Part, data: bytes) -> Part:
        """Replace the bytes of a part in one step (see `PartStorage.replace`)."""
        tag = exclusive_files.replace(self.location, part.path, data, part.tag)
        if tag is None:
            raise self.taken_over()
        return replace(part, size=len(data), tag=tag)

    def write_file(self, data: bytes) -> Part:
        """Write a file of rows, which belongs to the store once `commit` lists it.

        Any process may call this function. Each call writes a file of its own, so that a worker
        that is started again disturbs nothing.

        Raises:
            OSError: the disk or the object store failed.
        """
        path = f"{FILES_FOLDER}/{uuid4().hex}.parquet"
        tag = exclusive_files.create(self.location, path, data)
        assert tag is not None
        return Part(path, len(data), tag)

    def commit(self, files: Sequence[Part]) -> None:
        """Add files that `write_file` has written, in one step.

        Raises:
            UserError: another run writes the store.
            OSError: the disk or the object store failed.
        """
        self.append(CommittedFiles(tuple(file.path for file in files)).to_parquet())

    def remove_ranking(self, found: RankingPart) -> None:
        """Remove a ranking; a run that is killed meanwhile leaves files that no part lists.

        Raises:
            UserError: another run writes the store.
            OSError: the disk or the object store failed.
        """
        self.replace(found.part, b"")
        for file in found.ranking.files:
            self.location.delete_file(file.path)

    def remove_uncommitted(self) -> int:
        """Remove the files that no part lists, which killed runs have left; return their number.

        The caller is the only writer. It claims a number before, so that no earlier writer can list
        the files any more.
        """
        if not self._find_uncommitted():
            return 0
        self.fence()
        files = self._find_uncommitted()
        for path in files:
            self.location.delete_file(path)
        return len(files)

    def fence(self) -> None:
        """Claim a number, so that no earlier writer can add a part."""
        while True:
            self._list_parts()
            if self._claim(b"") is not None:
                return

    def _find_uncommitted(self) -> list[str]:
        """Return the paths of the files that no part lists."""
        entries = exclusive_files.list_entries(self.location, FILES_FOLDER)
        if not entries:
            return []
        contents = self._read_all(self._list_parts(), read_summary)
        listed = {name for _, content in contents for name in _listed_files(content)}
        return [entry.path for entry in entries if entry.path not in listed]

    def _list_parts(self) -> list[Part]:
        """Return the numbered parts that are not empty, without their summaries."""
        parts, numbers = [], [0]
        for file in exclusive_files.list_entries(self.location, PARTS_FOLDER):
            found = _PART.fullmatch(file.path)
            if found:
                numbers.append(int(found[1]))
                parts.append(Part(file.path, file.size, file.tag))
        self._next = max(numbers) + 1
        return [part for part in parts if part.size]

    def _read_all(
        self, parts: Sequence[Part], reader: Callable[[pa.NativeFile], Content]
    ) -> list[tuple[Part, Content]]:
        """Return each part with the result of a function that reads it."""
        if not self.location.is_remote:
            return [(part, self.read(part, reader)) for part in parts]
        with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
            return list(
                zip(parts, threads.map(lambda part: self.read(part, reader), parts), strict=True)
            )

    def _claim(self, data: bytes) -> Part | None:
        if not self._next:
            self._list_parts()
        path = f"{PARTS_FOLDER}/{self._next:08d}.parquet"
        tag = exclusive_files.create(self.location, path, data)
        if tag is None:
            return None
        self._next += 1
        return Part(path, len(data), tag)


class TemporaryPartStorage(PartStorage):
    """Store the parts of one run in a temporary file."""

    is_temporary = True

    def __init__(self, file: BinaryIO) -> None:
        """Begin without a part.

        Args:
            file: an empty file, such as that of `tempfile.TemporaryFile`.
        """
        self.uri = "the temporary store of this run"
        self._file = file
        self._extents: dict[str, tuple[int, int]] = {}

    def scan(self) -> StoredParts:
        """Return no part: a run begins without one, and knows those that it has added."""
        return StoredParts()

    def read(self, part: Part, reader: Callable[[pa.NativeFile], Content]) -> Content:
        """Return the result of a function that reads a part (see `PartStorage.read`)."""
        start, size = self._extents[part.path]
        self._file.seek(start)
        return reader(pa.BufferReader(self._file.read(size)))

    def append(self, data: bytes) -> Part:
        """Add a part in one step (see `PartStorage.append`)."""
        return self.replace(Part(f"{len(self._extents)}", 0), data)

    def replace(self, part: Part, data: bytes) -> Part:
        """Replace the bytes of a part in one step (see `PartStorage.replace`)."""
        self._extents[part.path] = (self._file.seek(0, 2), len(data))
        self._file.write(data)
        return replace(part, size=len(data))


def _listed_files(content: object) -> tuple[str, ...]:
    """Return the paths of the files that a part lists, by what it holds."""
    if isinstance(content, KeptRanking):
        return tuple(file.path for file in content.files)
    return content.names if isinstance(content, CommittedFiles) else ()
