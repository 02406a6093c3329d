"""Read features from Arrow: a column of lists, in memory or in Parquet and Arrow files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import InvalidRowError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One path or several: local paths, or URIs that pyarrow knows, such as `s3://bucket/prefix`."""

OPENING_THREADS = 16
READ_BUFFER_BYTES = 1 << 22
DECODING_OVERHEAD = 5
"""Memory that Parquet takes while it decodes rows, in multiples of the rows."""


@dataclass(frozen=True)
class FeatureFile(ABC):
    """Read a file of features, whose pieces can be read one by one.

    Attributes:
        system: File system that holds the file.
        path: Path of the file in it.
        column: Name of the column that holds the features.
        pieces: Number of pieces.
    """

    system: pafs.FileSystem
    path: str
    column: str
    pieces: int

    def read(self, pieces: Sequence[int], rows: int) -> Iterator[pa.Array]:
        """Yield the column in some pieces, in order.

        Args:
            pieces: Indices of the pieces.
            rows: Largest number of rows of Parquet to decode at a time.

        Raises:
            ValueError: The file cannot be read.
        """
        with _read_errors(self.path), self.system.open_input_file(self.path) as file:
            yield from self._read(file, pieces, rows)

    @abstractmethod
    def _read(self, file: pa.NativeFile, pieces: Sequence[int], rows: int) -> Iterator[pa.Array]:
        """Yield the column from an open file (see `read`)."""


class ParquetFeatures(FeatureFile):
    """Read a Parquet file; a piece is a row group.

    `pyarrow.dataset` would hold a row group twice before it returns the first row.
    """

    def _read(self, file: pa.NativeFile, pieces: Sequence[int], rows: int) -> Iterator[pa.Array]:
        opened = pq.ParquetFile(file, buffer_size=READ_BUFFER_BYTES)
        rows = max(1, rows // DECODING_OVERHEAD)
        chosen = {"row_groups": list(pieces), "columns": [self.column]}
        for batch in opened.iter_batches(rows, **chosen, use_threads=False):
            yield batch.column(0)


class ArrowFeatures(FeatureFile):
    """Read an Arrow IPC (Feather) file; a piece is a record batch."""

    def _read(
        self,
        file: pa.NativeFile,
        pieces: Sequence[int],
        rows: int,  # noqa: ARG002 - a record batch is read whole
    ) -> Iterator[pa.Array]:
        with pa.ipc.open_file(file) as opened:
            for piece in pieces:  # selecting a column would copy it from the mapped file
                yield opened.get_batch(piece).column(self.column)


def open_files(paths: Paths, column: str) -> list[FeatureFile]:
    """Open the files at some paths; the files of a folder in the order of their names.

    In a folder, names that begin with `.` or `_` are skipped.

    Raises:
        ValueError: A path does not exist or holds a password, a file is neither Parquet nor
            Arrow or has no such column, or there is no file.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    with ThreadPoolExecutor(OPENING_THREADS) as pool:
        found = [file for path in listed for file in _files_at(os.fspath(path))]
        files = list(pool.map(lambda file: _open(file[0], file[1], column), found))
    if not files:
        where = ", ".join(map(str, listed)) or "no path"
        raise ValueError(f"`gallery` holds no files ({where}): expected Parquet or Arrow IPC files")
    return files


def check_column(column: str, names: Sequence[str], holder: str = "`gallery`") -> None:
    """Raise a ValueError where `column` is not among the column names of a gallery."""
    if column not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"{holder} has no column {column!r}: expected one of its columns, {known}")


def to_matrix(array: pa.Array, values: int) -> NDArray[np.generic]:
    """Return lists of numbers as an array (rows, values), without a copy.

    Args:
        array: Fixed-size or other lists, or tensors of one shape.
        values: Expected length of each list.

    Raises:
        ValueError: The column does not hold lists of numbers.
        InvalidRowError: A list is null, holds a null or has another length.
    """
    lists = array.storage if isinstance(array, pa.ExtensionArray) else array
    if not _holds_numbers(lists.type):
        raise ValueError(f"`gallery` column holds {array.type}: expected lists of {values} numbers")
    if lists.null_count:
        raise InvalidRowError(
            "gallery", _first_true(lists.is_null()), f"is null: expected {values} numbers"
        )
    lengths = pc.list_value_length(lists)
    other = pc.not_equal(lengths, values)
    if pc.any(other).as_py():
        row = _first_true(other)
        raise InvalidRowError(
            "gallery", row, f"has {lengths[row]} values: expected the query's {values}"
        )
    numbers = lists.flatten()
    if numbers.null_count:
        row = _first_true(numbers.is_null()) // values
        raise InvalidRowError("gallery", row, f"holds a null: expected {values} numbers")
    matrix: NDArray[np.generic] = numbers.to_numpy().reshape(-1, values)
    return matrix


def _files_at(path: str) -> list[tuple[pafs.FileSystem, str]]:
    """Return the file at a path or the files of a folder, each with its file system."""
    if urlsplit(path).password:
        raise ValueError(
            "`gallery` URI holds a password, which would appear in logs: set it in the "
            "environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    with _read_errors(path):
        if "://" in path:
            system, inside = pafs.FileSystem.from_uri(path)
        else:
            system, inside = pafs.LocalFileSystem(use_mmap=True), os.path.abspath(path)  # noqa: PTH100 - text
        kind = system.get_file_info(inside).type
        if kind == pafs.FileType.NotFound:
            raise ValueError(f"`gallery` {path} does not exist: check the name")
        if kind == pafs.FileType.File:
            return [(system, inside)]
        found = system.get_file_info(pafs.FileSelector(inside, recursive=True))
    files = [info.path.removeprefix(inside) for info in found if info.type == pafs.FileType.File]
    return [(system, inside + file) for file in sorted(files) if not _is_hidden(file)]


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _open(system: pafs.FileSystem, path: str, column: str) -> FeatureFile:
    opened: FeatureFile
    with _read_errors(path), system.open_input_file(path) as file:
        magic = file.read(6)
        if magic[:4] == b"PAR1":
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            opened = ParquetFeatures(system, path, column, parquet.num_row_groups)
        elif magic == b"ARROW1":
            arrow = pa.ipc.open_file(file)
            names = arrow.schema.names
            opened = ArrowFeatures(system, path, column, arrow.num_record_batches)
        else:
            raise ValueError(
                f"`gallery` {path} is neither a Parquet nor an Arrow IPC file: give one of these"
            )
    check_column(column, names, f"`gallery` {path}")
    return opened


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"`gallery` {path} cannot be read ({reason}): check its name and contents"
        ) from error


def _holds_numbers(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_lists(kind) for is_lists in tests):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _first_true(flags: pa.BooleanArray) -> int:
    """Return the index of the first true flag."""
    return int(pc.index(flags, True).as_py())
