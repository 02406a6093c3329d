"""Open connections to S3 and compatible stores; each process keeps them."""

import functools
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pyarrow.fs as pafs

from reidray.storage.paths import bucket_of, split_address
from reidray.storage.retries import ATTEMPTS

if TYPE_CHECKING:
    import s3fs

REQUEST_SECONDS = 30.0
"""The time without an answer after which a request is sent again."""

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"


def open_s3(uri: str) -> pafs.S3FileSystem:
    """Return the file system of an address; each process keeps one connection per bucket.

    The file system does not retry: `with_retries` does, and counts the retries.
    """
    return _connect_pyarrow(bucket_of(uri), *_endpoint(uri))


def open_s3_for_ray(uri: str) -> pafs.S3FileSystem | None:
    """Return a file system for Ray's own files, which retries by itself.

    Returns:
        None for a local path, which Ray opens without one.
    """
    if not uri.startswith("s3://"):
        return None
    return _connect_pyarrow(bucket_of(uri), *_endpoint(uri), attempts=ATTEMPTS)


def open_s3fs(uri: str) -> "s3fs.S3FileSystem":
    """Return a client for the requests that pyarrow lacks, and for the keys that it changes."""
    return _connect_s3fs(*_endpoint(uri))


def _endpoint(uri: str) -> tuple[str | None, str | None, str | None]:
    """Return the endpoint, scheme and region that an address or the environment names."""
    options = dict(parse_qsl(split_address(uri)[1]))
    endpoint = options.get("endpoint_override") or os.environ.get(ENDPOINT_VARIABLE)
    return endpoint, options.get("scheme"), options.get("region")


@functools.lru_cache(maxsize=64)
def _connect_pyarrow(
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
def _connect_s3fs(
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
