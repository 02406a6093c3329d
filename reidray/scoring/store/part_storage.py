"""Store numbered parts on a disk, in a bucket or in a temporary file.

A writer adds a part under the next number, which only one writer can claim. A writer that was
paused, and does not know that it has lost the lock of the store, finds its next number taken, and
nothing that it writes appears. A number is never free again: a part from which everything is
deleted becomes empty.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

import pyarrow as pa

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.locks import exclusive_files

Content = TypeVar("Content")

PARTS_FOLDER = "parts"
_DAMAGE = (pa.ArrowException, KeyError, TypeError, ValueError, RecursionError, OSError)
"""Errors that a damaged file, or a file that is no part, causes."""

_PART = re.compile(rf"{PARTS_FOLDER}/([0-9]{{8}})\.parquet")


@dataclass(frozen=True)
class Part:
    """Describe a part of a store.

    Attributes:
        number: position in the order of writing.
        size: bytes; 0 where everything in it is deleted.
        tag: version in an object store, which changes with every write.
    """

    number: int
    size: int
    tag: str = ""


class PartStorage(ABC):
    """Store parts one after the other.

    Attributes:
        uri: address of the parts, for messages.
        is_temporary: whether the parts disappear at the end of the run.
    """

    uri: str
    is_temporary = False

    @abstractmethod
    def find(self) -> list[Part]:
        """Return the parts that are not empty, in the order of writing."""

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

    def find(self) -> list[Part]:
        """Return the parts that are not empty (see `PartStorage.find`)."""
        parts = []
        for file in exclusive_files.list_entries(self.location, PARTS_FOLDER):
            found = _PART.fullmatch(file.path)
            if found:
                parts.append(Part(int(found[1]), file.size, file.tag))
        self._next = max((part.number for part in parts), default=0) + 1
        return [part for part in parts if part.size]

    def read(self, part: Part, reader: Callable[[pa.NativeFile], Content]) -> Content:
        """Return the result of a function that reads a part (see `PartStorage.read`)."""
        path = _path_of(part.number)

        def read(file: pa.NativeFile) -> Content:
            if not file.size():
                raise self.taken_over()
            return reader(file)

        try:
            return self.location.read_with(path, read)
        except _DAMAGE as error:
            if isinstance(error, OSError):  # Arrow raises it for damage too: can it be read at all?
                self.location.read_bytes(path)
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.location.join(path).uri}: is not a part of a store ({reason}); remove it, "
                "and what it held is embedded again"
            ) from error

    def append(self, data: bytes) -> Part:
        """Add a part in one step (see `PartStorage.append`)."""
        part = self._claim(data)
        if part is None:
            raise self.taken_over()
        return part

    def replace(self, part: Part, data: bytes) -> Part:
        """Replace the bytes of a part in one step (see `PartStorage.replace`)."""
        path = _path_of(part.number)
        tag = exclusive_files.replace(self.location, path, data, part.tag)
        if tag is None:
            raise self.taken_over()
        return replace(part, size=len(data), tag=tag)

    def fence(self) -> list[Part]:
        """Claim a number, so that no earlier writer can add a part.

        Returns:
            The parts. From now on only the caller adds parts.
        """
        while True:
            parts = self.find()
            if self._claim(b"") is not None:
                return parts

    def _claim(self, data: bytes) -> Part | None:
        if not self._next:
            self.find()
        path = _path_of(self._next)
        tag = exclusive_files.create(self.location, path, data)
        if tag is None:
            return None
        self._next += 1
        return Part(self._next - 1, len(data), tag)


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
        self._extents: list[tuple[int, int]] = []

    def find(self) -> list[Part]:
        """Return the parts that are not empty (see `PartStorage.find`)."""
        return [Part(number, size) for number, (_, size) in enumerate(self._extents) if size]

    def read(self, part: Part, reader: Callable[[pa.NativeFile], Content]) -> Content:
        """Return the result of a function that reads a part (see `PartStorage.read`)."""
        start, size = self._extents[part.number]
        self._file.seek(start)
        return reader(pa.BufferReader(self._file.read(size)))

    def append(self, data: bytes) -> Part:
        """Add a part in one step (see `PartStorage.append`)."""
        self._extents.append((0, 0))
        return self.replace(Part(len(self._extents) - 1, 0), data)

    def replace(self, part: Part, data: bytes) -> Part:
        """Replace the bytes of a part in one step (see `PartStorage.replace`)."""
        self._extents[part.number] = (self._file.seek(0, 2), len(data))
        self._file.write(data)
        return Part(part.number, len(data))


def _path_of(number: int) -> str:
    return f"{PARTS_FOLDER}/{number:08d}.parquet"
