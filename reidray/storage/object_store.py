"""Read and write objects of S3 and compatible stores, with errors that show no credentials."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from reidray.errors import describe_reason
from reidray.storage.connections.s3_connections import open_s3, open_s3fs
from reidray.storage.local_disk import check_length
from reidray.storage.paths import bucket_of, key_of
from reidray.storage.retries import with_retries

Answer = TypeVar("Answer")

UPLOAD_BYTES = 2**24
"""Bytes of a file that are in memory while it is written."""

_FAILED_CONDITIONS = ("PreconditionFailed", "ConditionalRequestConflict", "412")

_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")


class ConditionFailedError(OSError):
    """Signal that an object was not written, as the condition of the request did not hold."""


def read_object(uri: str, path: str, limit: int | None = None) -> bytes:
    """Return all bytes of an object.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        limit: the number of bytes that the object may hold; None for any number.

    Raises:
        FileNotFoundError: the object does not exist.
        PermissionError: the store refuses to read the object.
        OSError: the store failed after all retries, or the object holds more bytes than the limit.
            The message holds no credentials.
    """

    def read(file: pa.NativeFile) -> bytes:
        check_length(file.size(), limit)
        data = bytes(file.read())
        if len(data) != file.size():
            raise OSError(f"{path}: ends after {len(data)} of {file.size()} bytes")
        return data

    return read_object_with(uri, path, read)


def read_object_with(uri: str, path: str, reader: Callable[[pa.NativeFile], Answer]) -> Answer:
    """Open an object, call a reader with it, and return its result.

    The reader may read a part of the object. After a transient error it is called again.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        reader: a function of the open file.

    Raises:
        FileNotFoundError: the object does not exist.
        OSError: the store failed after all retries; the message holds no credentials.
    """

    def read() -> Answer:
        with _open_object(uri, path) as file:
            return reader(file)

    return _with_safe_errors(path, read)


def write_object(uri: str, path: str, data: bytes | memoryview) -> None:
    """Write an object, which appears whole.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        data: its contents.

    Raises:
        OSError: the store failed after all retries; the message holds no credentials.
    """
    write_object_with(uri, path, lambda stream: stream.write(data))


def upload_object(uri: str, path: str, source: Path) -> None:
    """Write an object from a local file, a piece at a time; the object appears whole.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        source: the file.

    Raises:
        OSError: the store failed after all retries; the message holds no credentials.
    """

    def copy(stream: pa.NativeFile) -> None:
        with source.open("rb") as file:
            while piece := file.read(UPLOAD_BYTES):
                stream.write(piece)

    write_object_with(uri, path, copy)


def write_object_with(uri: str, path: str, writer: Callable[[pa.NativeFile], object]) -> None:
    """Open a new object, call a writer with it, and close it; the object appears whole.

    After a transient error the writer is called again, with an empty object.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        writer: a function of the open file.

    Raises:
        OSError: the store failed after all retries; the message holds no credentials.
    """

    def write() -> None:
        with open_s3(uri).open_output_stream(path) as stream:
            writer(stream)

    _with_safe_errors(path, write)


def delete_object(uri: str) -> None:
    """Delete an object, if it exists.

    Raises:
        OSError: the store failed after all retries; the message holds no credentials.
    """
    # pyarrow would leave an empty object in place of the folder.
    call_s3(uri, "delete_object", Key=key_of(uri))


def delete_old_versions(uri: str) -> None:
    """Delete every version of an object but the current one, and all delete markers.

    Raises:
        OSError: the store failed, or refuses to delete versions.
    """
    key = key_of(uri)
    found = call_s3(uri, "list_object_versions", Prefix=key)
    versions = found.get("Versions", []) + found.get("DeleteMarkers", [])
    of_key = [version for version in versions if version["Key"] == key]
    deleted = any(version["IsLatest"] for version in found.get("DeleteMarkers", []))
    for version in of_key:
        if deleted or not version["IsLatest"]:
            call_s3(uri, "delete_object", Key=key, VersionId=version["VersionId"])


def describe_object(uri: str, path: str) -> pafs.FileInfo:
    """Return whether a path is an object, the prefix of objects, or neither."""
    if _is_unusual(path):
        return _describe_key(uri, path)
    return with_retries(lambda: open_s3(uri).get_file_info(path))


def list_objects(uri: str, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
    """Return the objects and prefixes below a path.

    Args:
        uri: an address of the store.
        path: `bucket/prefix` of the objects.
        recursive: whether to list the objects below prefixes too.

    Raises:
        FileNotFoundError: there are none.
        OSError: the store failed after all retries.
    """
    if _is_unusual(path):
        return _list_keys(uri, path, recursive=recursive)
    selector = pafs.FileSelector(path, recursive=recursive)
    return with_retries(lambda: list(open_s3(uri).get_file_info(selector)))


def stamp(size: int, modified: int, settled: int) -> str:
    """Return a text of the size and the time of an object, which changes with its contents.

    Args:
        size: the size in bytes.
        modified: the time of the last change, in nanoseconds since 1970.
        settled: the time, in nanoseconds since 1970, before which the last change must lie.

    Returns:
        The text; empty if the object was changed later.
    """
    return f"{size:x}-{modified:x}" if modified < settled else ""


def call_s3(uri: str, method: str, **arguments: Any) -> dict[str, Any]:
    """Call a method of S3 that pyarrow lacks, and return the answer.

    Args:
        uri: an address that names the store and the bucket.
        method: the name of the method in boto3, such as `list_objects_v2`.
        arguments: its arguments other than the bucket.

    Raises:
        FileNotFoundError: the object does not exist.
        PermissionError: the store refuses the request.
        ConditionFailedError: a condition of the request does not hold.
        OSError: the store failed after all retries. No message holds credentials.
    """
    from botocore.exceptions import BotoCoreError  # slow to import, and few jobs need it

    try:
        store = open_s3fs(uri)
        return dict(store.call_s3(method, Bucket=bucket_of(uri), **arguments))
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError) as error:
        answer = getattr(error.__cause__, "response", None) or {}
        failed = answer.get("Error", {}).get("Code") in _FAILED_CONDITIONS
        kind = ConditionFailedError if failed else OSError
        kind = PermissionError if isinstance(error, PermissionError) else kind
        raise kind(redact_secrets(f"{uri}: {error}")) from None


def iter_pages(
    uri: str, method: str, markers: Sequence[str] = ("ContinuationToken",), **arguments: Any
) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing of S3.

    Args:
        uri: an address that names the store and the bucket.
        method: the name of the method in boto3, such as `list_objects_v2`.
        markers: the arguments of the method that name the next page.
        arguments: its arguments other than the bucket.

    Raises:
        OSError: the store failed, as for `call_s3`.
    """
    more: dict[str, Any] = {}
    while True:
        page = call_s3(uri, method, **arguments, **more)
        yield page
        if not page.get("IsTruncated"):
            return
        more = {name: page[f"Next{name}"] for name in markers if page.get(f"Next{name}")}


def redact_secrets(text: str) -> str:
    """Return a text with each credential of this process replaced by the name of its variable."""
    for variable in _SECRET_VARIABLES:
        secret = os.environ.get(variable)
        if secret:
            text = text.replace(secret, f"<{variable}>")
    return text


def describe_error(error: OSError) -> str:
    """Return the reason of an error of a disk or an object store in one line, without secrets."""
    return redact_secrets(describe_reason(error))


def _is_unusual(path: str) -> bool:
    """Return whether a key has an empty, `.` or `..` part, which pyarrow refuses or changes."""
    return any(part in ("", ".", "..") for part in path.split("/"))


def _open_object(uri: str, path: str) -> pa.NativeFile:
    """Open the object at `bucket/key`, without any change of the key."""
    if not _is_unusual(path):
        return open_s3(uri).open_input_file(path)
    return pa.PythonFile(open_s3fs(uri).open(path, "rb"), mode="r")


def _describe_key(uri: str, path: str) -> pafs.FileInfo:
    """Describe an object whose key pyarrow would change."""
    key = path.partition("/")[2]
    found = call_s3(uri, "list_objects_v2", Prefix=key).get("Contents", [])
    keys = {entry["Key"] for entry in found}
    if key in keys:
        return pafs.FileInfo(path, pafs.FileType.File)
    is_dir = any(each.startswith(f"{key}/") for each in keys)
    return pafs.FileInfo(path, pafs.FileType.Directory if is_dir else pafs.FileType.NotFound)


def _list_keys(uri: str, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
    """List the objects below a prefix that pyarrow would change."""
    bucket, _, key = path.partition("/")
    prefix = f"{key}/"
    delimiter = {} if recursive else {"Delimiter": "/"}
    infos: list[pafs.FileInfo] = []
    for page in iter_pages(uri, "list_objects_v2", Prefix=prefix, **delimiter):
        infos += [
            pafs.FileInfo(
                f"{bucket}/{entry['Key']}",
                pafs.FileType.File,
                mtime=entry["LastModified"],
                size=entry["Size"],
            )
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        ]
        infos += [
            pafs.FileInfo(f"{bucket}/{entry['Prefix'].removesuffix('/')}", pafs.FileType.Directory)
            for entry in page.get("CommonPrefixes", [])
        ]
    if not infos:
        raise FileNotFoundError(f"no such folder: {path}")
    return infos


def _with_safe_errors(path: str, request: Callable[[], Answer]) -> Answer:
    """Return the answer to a request, with retries and with errors that hold no credentials."""
    try:
        return with_retries(request)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except OSError as error:
        if "ACCESS_DENIED" in str(error) or isinstance(error, PermissionError):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
        raise OSError(redact_secrets(f"{path}: {error}")) from None
