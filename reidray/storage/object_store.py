"""S3 and what speaks its language: addresses, connections, and errors that tell no secrets."""

import errno
import functools
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.fs as pafs

from reidray.errors import UserError
from reidray.storage.local_disk import check_length
from reidray.storage.retries import ATTEMPTS, with_retries

if TYPE_CHECKING:
    import s3fs

Answer = TypeVar("Answer")

REQUEST_SECONDS = 30.0
"""How long an answer may take before the request is sent again."""

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"

_FAILED_CONDITIONS = ("PreconditionFailed", "ConditionalRequestConflict", "412")

_OPTIONS = ("endpoint_override", "region", "scheme")
_OPTIONS_START = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")


class ConditionFailedError(OSError):
    """An object was not written, as the condition of the request did not hold."""


def check_address(uri: str) -> None:
    """Refuse an `s3://` address that names no bucket, holds credentials or unknown options.

    Raises:
        UserError: as said; the message does not repeat what may be a secret.
    """
    address, options = split_address(uri)
    address, _, rest = address.partition("?")
    query = f"{rest}&{options}" if "=" in rest else options
    bucket = address.partition("/")[0]
    if "@" in bucket or ":" in bucket or "@" in query:
        raise UserError(
            "an s3:// address must not hold credentials, for it ends up in logs; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    if not bucket:
        raise UserError("an s3:// address names no bucket; expected s3://bucket/prefix")
    unknown = [key for key, _ in parse_qsl(query) if key not in _OPTIONS]
    if unknown:
        raise UserError(
            f"s3://{address}: option {unknown[0]!r} is not known, expected {', '.join(_OPTIONS)}"
        )


def read_object(uri: str, path: str, limit: int | None = None) -> bytes:
    """The bytes of an object of the address's store, whole.

    Args:
        uri: the address.
        path: bucket and key.
        limit: the most bytes that it may hold.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: the store does not let it be read.
        OSError: the store failed, for good, or the object holds more than the limit; the message
            holds no credentials.
    """

    def read(file: pa.NativeFile) -> bytes:
        check_length(file.size(), limit)
        data = bytes(file.read())
        if len(data) != file.size():
            raise OSError(f"{path}: ends after {len(data)} of {file.size()} bytes")
        return data

    return read_object_with(uri, path, read)


def read_object_with(uri: str, path: str, reader: Callable[[pa.NativeFile], Answer]) -> Answer:
    """What a reader makes of an object, of which it may read a part; it may begin more than once.

    Raises:
        FileNotFoundError: there is none.
        OSError: the store failed, for good; the message holds no credentials.
    """

    def read() -> Answer:
        with _open_object(uri, path) as file:
            return reader(file)

    return _told_without_secrets(path, read)


def write_object(uri: str, path: str, data: bytes | memoryview) -> None:
    """Put an object in the address's store; it appears whole.

    Raises:
        OSError: the store failed, for good; the message holds no credentials.
    """

    def write() -> None:
        with open_s3(uri).open_output_stream(path) as stream:
            stream.write(data)

    _told_without_secrets(path, write)


def delete_object(uri: str) -> None:
    """Remove an object, if it is there.

    Raises:
        OSError: the store failed, for good; the message holds no credentials.
    """
    # Not by pyarrow, which leaves an empty object for the folder.
    call_s3(uri, "delete_object", Key=key_of(uri))


def delete_old_versions(uri: str) -> None:
    """Remove every version of an object but the newest, and what marks it as deleted.

    Raises:
        OSError: the store failed, or does not let this be done.
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
    """What is at a path: a file, what stands for a folder, or nothing."""
    if _is_unusual(path):
        return _describe_key(uri, path)
    return with_retries(lambda: open_s3(uri).get_file_info(path))


def list_objects(uri: str, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
    """What lies under a path.

    Raises:
        FileNotFoundError: nothing does.
        OSError: the store failed, for good.
    """
    if _is_unusual(path):
        return _list_keys(uri, path, recursive=recursive)
    selector = pafs.FileSelector(path, recursive=recursive)
    return with_retries(lambda: list(open_s3(uri).get_file_info(selector)))


def open_s3(uri: str) -> pafs.S3FileSystem:
    """The object store of an address; one connection per bucket is kept in each process.

    A request that fails is not sent again: `with_retries` does that, and counts.
    """
    endpoint, scheme, region = _whereabouts(uri)
    return _connect(bucket_of(uri), endpoint, scheme, region)


def open_s3_for_ray(uri: str) -> pafs.S3FileSystem | None:
    """What holds an address for Ray's own files: a store that sends its requests again by itself.

    None for a local path, which Ray opens alone.
    """
    if not uri.startswith("s3://"):
        return None
    return _connect(bucket_of(uri), *_whereabouts(uri), attempts=ATTEMPTS)


def call_s3(uri: str, method: str, **arguments: Any) -> dict[str, Any]:
    """What an address's store answers to a call that pyarrow does not have.

    Args:
        uri: names store and bucket.
        method: of S3, as boto3 calls it.
        arguments: of the method, but for the bucket.

    Raises:
        FileNotFoundError: there is no such object.
        PermissionError: the store does not let it be done.
        ConditionFailedError: a condition of the request does not hold.
        OSError: the store failed, for good. No message holds credentials.
    """
    from botocore.exceptions import BotoCoreError  # slow to import, and for outputs only

    try:
        store = _connect_to_s3(*_whereabouts(uri))
        return dict(store.call_s3(method, Bucket=bucket_of(uri), **arguments))
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError) as error:
        answer = getattr(error.__cause__, "response", None) or {}
        failed = answer.get("Error", {}).get("Code") in _FAILED_CONDITIONS
        kind = ConditionFailedError if failed else OSError
        kind = PermissionError if isinstance(error, PermissionError) else kind
        raise kind(redact_secrets(f"{uri}: {error}")) from None


def split_address(uri: str) -> tuple[str, str]:
    """Split an `s3://` address into `bucket/prefix` and its options.

    A question mark belongs to the prefix unless one of the known options follows it.
    """
    found = _OPTIONS_START.search(uri)
    address = uri[: found.start()] if found else uri
    return address.removeprefix("s3://"), uri[found.end() :] if found else ""


def bucket_of(uri: str) -> str:
    """The bucket of an `s3://` address."""
    return split_address(uri)[0].partition("/")[0]


def key_of(uri: str) -> str:
    """What follows the bucket in an `s3://` address, without its options."""
    return split_address(uri)[0].partition("/")[2]


def _whereabouts(uri: str) -> tuple[str | None, str | None, str | None]:
    """Endpoint, scheme and region that an address or the environment names."""
    options = dict(parse_qsl(split_address(uri)[1]))
    endpoint = options.get("endpoint_override") or os.environ.get(ENDPOINT_VARIABLE)
    return endpoint, options.get("scheme"), options.get("region")


def redact_secrets(text: str) -> str:
    """The text with the credentials of this process replaced by the names of their variables."""
    for variable in _SECRET_VARIABLES:
        secret = os.environ.get(variable)
        if secret:
            text = text.replace(secret, f"<{variable}>")
    return text


def _is_unusual(path: str) -> bool:
    """Return whether a key has empty, `.` or `..` parts, which pyarrow refuses or changes."""
    return any(part in ("", ".", "..") for part in path.split("/"))


def _open_object(uri: str, path: str) -> pa.NativeFile:
    """Open an object whose key is exactly the one of `bucket/key`."""
    if not _is_unusual(path):
        return open_s3(uri).open_input_file(path)
    return pa.PythonFile(_connect_to_s3(*_whereabouts(uri)).open(path, "rb"), mode="r")


def _describe_key(uri: str, path: str) -> pafs.FileInfo:
    """Do what `describe_object` does for a key with unusual parts."""
    key = path.partition("/")[2]
    found = call_s3(uri, "list_objects_v2", Prefix=key).get("Contents", [])
    keys = {entry["Key"] for entry in found}
    if key in keys:
        return pafs.FileInfo(path, pafs.FileType.File)
    is_dir = any(each.startswith(f"{key}/") for each in keys)
    return pafs.FileInfo(path, pafs.FileType.Directory if is_dir else pafs.FileType.NotFound)


def _list_keys(uri: str, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
    """Do what `list_objects` does for a prefix with unusual parts."""
    bucket, _, key = path.partition("/")
    prefix = f"{key}/"
    arguments = {"Prefix": prefix} | ({} if recursive else {"Delimiter": "/"})
    infos: list[pafs.FileInfo] = []
    while True:
        found = call_s3(uri, "list_objects_v2", **arguments)
        infos += [
            pafs.FileInfo(
                f"{bucket}/{entry['Key']}",
                pafs.FileType.File,
                mtime=entry["LastModified"],
                size=entry["Size"],
            )
            for entry in found.get("Contents", [])
            if not entry["Key"].endswith("/")
        ]
        infos += [
            pafs.FileInfo(f"{bucket}/{entry['Prefix'].removesuffix('/')}", pafs.FileType.Directory)
            for entry in found.get("CommonPrefixes", [])
        ]
        if not found.get("IsTruncated"):
            break
        arguments["ContinuationToken"] = found["NextContinuationToken"]
    if not infos:
        raise FileNotFoundError(f"no such folder: {path}")
    return infos


def _told_without_secrets(path: str, request: Callable[[], Answer]) -> Answer:
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
    import s3fs  # slow to import, and for outputs only

    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme or 'https'}://{endpoint}"
    return s3fs.S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
