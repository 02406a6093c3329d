"""S3 and what speaks its language: addresses, connections, and errors that tell no secrets."""

import functools
import os
from urllib.parse import parse_qsl

import pyarrow.fs as pafs

from reidray.errors import UserError

_OPTIONS = ("endpoint_override", "region", "scheme")
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")


def check_address(uri: str) -> None:
    """Refuse an `s3://` address that names no bucket, holds credentials or unknown options.

    Raises:
        UserError: as said; the message does not repeat what may be a secret.
    """
    address, _, query = uri.removeprefix("s3://").partition("?")
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


def open_store(uri: str) -> pafs.S3FileSystem:
    """The object store of an address; one connection per bucket is kept in each process."""
    address, _, query = uri.removeprefix("s3://").partition("?")
    options = dict(parse_qsl(query))
    endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL")
    bucket = address.partition("/")[0]
    return _connect(bucket, endpoint, options.get("scheme"), options.get("region"))


def without_secrets(text: str) -> str:
    """The text with the credentials of this process replaced by the names of their variables."""
    for variable in _SECRET_VARIABLES:
        secret = os.environ.get(variable)
        if secret:
            text = text.replace(secret, f"<{variable}>")
    return text


@functools.lru_cache(maxsize=64)
def _connect(
    bucket: str, endpoint: str | None, scheme: str | None, region: str | None
) -> pafs.S3FileSystem:
    if not endpoint and not region:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        region=region,
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=4),
    )
