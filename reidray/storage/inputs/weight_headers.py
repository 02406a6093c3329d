"""Check the header of a file of weights, before any expensive work and without PyTorch.

The weights themselves are read later, by `reidray.models.weights`.
"""

import json
import zipfile
from typing import Any, cast

import pyarrow as pa

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.object_store import describe_error

SUFFIX = ".safetensors"

ARCHIVE_START = b"PK\x03\x04"
PICKLE_STARTS = (ARCHIVE_START, b"\x80\x02")
"""First bytes of the files of `torch.save`: a ZIP archive, and before PyTorch 1.6 a pickle."""

LENGTH_BYTES = 8
"""Bytes at the start of a file of safetensors that hold the length of its header."""

MAX_HEADER_BYTES = 100_000_000
"""Bytes of the largest header that safetensors reads."""

NO_TENSORS = "holds no tensors: give the file that holds the weights"


class HeaderError(ValueError):
    """Signal that a file is no weights, and the reason with what to do."""


def check_weight_header(field: str, file: Location) -> None:
    """Check that a file begins as weights do: its kind is known, and its header is whole.

    Args:
        field: the field that names the weights.
        file: a file on a disk or in an object store.

    Raises:
        UserError: the file cannot be read, is empty, of another kind, or its header is damaged.
    """
    try:
        file.parent.read_with(file.name, lambda opened: _check(opened, file.name))
    except HeaderError as error:
        raise UserError(f"`{field}` {file.uri}: {error}") from None
    except OSError as error:
        raise UserError(
            f"`{field}` {file.uri}: cannot be read ({describe_error(error)}); "
            "check its permissions, or copy it again"
        ) from error


def looks_like_safetensors(start: bytes, size: int) -> bool:
    """Return whether a file begins with the length of a header, and the header with a brace.

    Args:
        start: the first bytes of the file.
        size: bytes of the whole file.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    return start[LENGTH_BYTES:][:1] == b"{" and length <= size - LENGTH_BYTES


def _check(opened: pa.NativeFile, name: str) -> None:
    """Check the header of an open file.

    Raises:
        HeaderError: the file is no weights.
    """
    size = opened.size()
    if size == 0:
        raise HeaderError("is empty, it has 0 bytes: copy or download it again")
    start = opened.read(LENGTH_BYTES + 1)
    if name.endswith(SUFFIX) or looks_like_safetensors(start, size):
        _check_safetensors(opened, size)
    elif start.startswith(ARCHIVE_START):
        _check_archive(opened)
    elif not start.startswith(PICKLE_STARTS):
        raise HeaderError(
            "is neither safetensors nor a file of torch.save: give `imagenet`, `none`, such a file "
            "or a model directory"
        )


def _check_safetensors(opened: pa.NativeFile, size: int) -> None:
    """Check that the header of safetensors is JSON, and fits the length of the file.

    Raises:
        HeaderError: it is damaged, or names no tensor.
    """
    opened.seek(0)
    length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise _damaged(f"its header has {length:,} bytes and the file {size:,}")
    try:
        header = json.loads(opened.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        ends = [int(entry["data_offsets"][1]) for entry in tensors]
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise _damaged("its header does not describe tensors in JSON") from error
    described, found = max(ends, default=0), size - LENGTH_BYTES - length
    if described != found:
        raise _damaged(f"its header describes {described:,} bytes of values, and {found:,} follow")
    if not tensors:
        raise HeaderError(NO_TENSORS)


def _check_archive(opened: pa.NativeFile) -> None:
    """Check that a file of `torch.save` is a whole ZIP archive.

    Raises:
        HeaderError: it is not.
    """
    opened.seek(0)
    try:
        zipfile.ZipFile(cast("Any", opened))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise HeaderError(
            "is a file of torch.save and its end is missing or damaged: copy or download it again"
        ) from error


def _damaged(reason: str) -> HeaderError:
    return HeaderError(f"cannot be read as safetensors ({reason}): copy or download it again")
