"""Read and write objects of S3 and compatible stores, with errors that show no credentials."""

import errno
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.fs as pafs

from reidray.errors import describe_reason
from reidray.storage.local_disk import check_length
from reidray.storage.paths import bucket_of, key_of, split_address
from reidray.storage.retries import ATTEMPTS, with_retries

if TYPE_CHECKING:
    import s3fs

Answer = TypeVar("Answer")

REQUEST_SECONDS = 30.0
"""The time without an answer after which a request is sent again."""

UPLOAD_BYTES = 2**24
"""Bytes of a file that are in memory while it is written."""

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"

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

    def write() -> None:
        with open_s3(uri).open_output_stream(path) as stream:
            stream.write(data)

    _with_safe_errors(path, write)


def upload_object(uri: str, path: str, source: Path) -> None:
    """Write an object from a local file, a piece at a time; the object appears whole.

    Args:
        uri: an address of the store.
        path: `bucket/key` of the object.
        source: the file.

    Raises:
        OSError: the store failed after all retries; the message holds no credentials.
    """

    def upload() -> None:
        with source.open("rb") as file, open_s3(uri).open_output_stream(path) as stream:
            while piece := file.read(UPLOAD_BYTES):
                stream.write(piece)

    _with_safe_errors(path, upload)


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


def open_s3(uri: str) -> pafs.S3FileSystem:
    """Return the file system of an address; each process keeps one connection per bucket.

    The file system does not retry: `with_retries` does, and counts the retries.
    """
    return _connect(bucket_of(uri), *_endpoint(uri))


def open_s3_for_ray(uri: str) -> pafs.S3FileSystem | None:
    """Return a file system for Ray's own files, which retries by itself.

    Returns:
        None for a local path, which Ray opens without one.
    """
    if not uri.startswith("s3://"):
        return None
    return _connect(bucket_of(uri), *_endpoint(uri), attempts=ATTEMPTS)


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
        store = _connect_to_s3(*_endpoint(uri))
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


def _endpoint(uri: str) -> tuple[str | None, str | None, str | None]:
    """Return the endpoint, scheme and region that an address or the environment names."""
    options = dict(parse_qsl(split_address(uri)[1]))
    endpoint = options.get("endpoint_override") or os.environ.get(ENDPOINT_VARIABLE)
    return endpoint, options.get("scheme"), options.get("region")


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
    return pa.PythonFile(_connect_to_s3(*_endpoint(uri)).open(path, "rb"), mode="r")


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


@functools.lru_cache(maxsize=64)
def _connect(
    bucket: str, endpoint: str | None, scheme: str | None, region: str | None, attempts: int = 1
) -> pafs.S3FileSystem:
    if not endpoint and not region:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        region=region,
        connect_timeout=10,
        request_timeout=REQUEST_SECONDS,
        allow_delayed_open=True,  # a small file is one request
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


@functools.lru_cache(maxsize=64)
def _connect_to_s3(
    endpoint: str | None, scheme: str | None, region: str | None
) -> "s3fs.S3FileSystem":
    import s3fs  # slow to import, and few jobs need it
    from aiobotocore.session import AioSession

    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme or 'https'}://{endpoint}"
    session = AioSession()
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_parse_time)
    return s3fs.S3FileSystem(
        session=session,
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _parse_time(value: Any) -> datetime:
    """Parse a time in an answer of S3.

    The parser of botocore, which takes any format, takes longer than the rest of a listing.
    """
    from botocore.utils import parse_timestamp

    try:
        found: datetime | None = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is not None and found.tzinfo is not None:
        return found
    parsed: datetime = parse_timestamp(value)
    return parsed
