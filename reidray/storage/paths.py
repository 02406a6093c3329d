"""Parse `s3://` addresses, and classify paths and keys by their text."""

import posixpath
import re
from pathlib import PureWindowsPath
from urllib.parse import parse_qsl

from reidray.errors import UserError

_OPTIONS = ("endpoint_override", "region", "scheme")
_OPTIONS_START = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")


def check_address(uri: str) -> None:
    """Check that an `s3://` address names a bucket, and holds known options and no credentials.

    Raises:
        UserError: the address is wrong; the message repeats nothing that may be a secret.
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


def split_address(uri: str) -> tuple[str, str]:
    """Split an `s3://` address into `bucket/prefix` and its options.

    A question mark belongs to the prefix unless one of the known options follows it.
    """
    found = _OPTIONS_START.search(uri)
    address = uri[: found.start()] if found else uri
    return address.removeprefix("s3://"), uri[found.end() :] if found else ""


def bucket_of(uri: str) -> str:
    """Return the bucket of an `s3://` address."""
    return split_address(uri)[0].partition("/")[0]


def key_of(uri: str) -> str:
    """Return the key of an `s3://` address: the part after the bucket, without options."""
    return split_address(uri)[0].partition("/")[2]


def path_leaves_root(path: str) -> bool:
    """Return whether a path, by its text alone, is absolute, empty or climbs out of its root."""
    normal = posixpath.normpath(path)
    return (
        not path
        or "\0" in path
        or normal in (".", "..")
        or normal.startswith(("/", "../"))
        or PureWindowsPath(path).is_absolute()
    )


def key_leaves_root(key: str) -> bool:
    """Return whether the key of an object, relative to a prefix, climbs out of it by `..` parts.

    An object store takes a key as it is, but a proxy in front of it may resolve the parts.
    """
    depth = 0
    for part in key.split("/"):
        depth += 0 if part in ("", ".") else -1 if part == ".." else 1
        if depth < 0:
            return True
    return not key.strip("/") or "\0" in key


def hidden_folder(path: str) -> str:
    """Return the hidden folder in which a file lies, with a final `/`; empty if there is none."""
    folders = path.split("/")[:-1]
    for depth, folder in enumerate(folders, start=1):
        if folder.startswith(".") and folder not in (".", ".."):
            return "/".join(folders[:depth]) + "/"
    return ""


def is_hidden(path: str) -> bool:
    """Return whether a file is hidden, or lies in a hidden folder."""
    return path.rpartition("/")[2].startswith(".") or hidden_folder(path) != ""


def is_utf8(name: str) -> bool:
    """Return whether UTF-8 can encode a name, which is not certain of a name on a disk."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
