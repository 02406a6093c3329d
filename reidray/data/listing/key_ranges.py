"""Split the keys of a bucket into ranges that parallel tasks can list.

An object store lists keys in the order of their bytes and from any key onwards, but it does not
tell how many there are. Requests for one key each find the characters that follow a common prefix,
as in a prefix tree. So folders split where their names differ, and so do the files of one folder.
"""

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from reidray.data.listing.path_range import PathRange
from reidray.storage.location import Location
from reidray.storage.object_store import call_s3

_CONCURRENT_REQUESTS = 16
_MAX_CHILDREN = 64  # number of characters that are tried after one prefix


@dataclass(frozen=True)
class _Node:
    """Hold a prefix of keys of a range, and the first key of the range that begins with it."""

    keys: PathRange
    prefix: str
    first: str


def key_prefix(folder: Location) -> str:
    """Return the prefix of the keys of a folder in a bucket."""
    key = folder.path.partition("/")[2]
    return f"{key}/" if key else ""


def split_ranges(folder: Location, ranges: Sequence[PathRange], parts: int) -> list[PathRange]:
    """Split ranges of keys where the keys differ; leave out ranges that hold no key.

    Args:
        folder: the folder that the keys are relative to.
        ranges: the ranges, in order.
        parts: the number of ranges wanted. There are fewer where the keys are few, and up to twice
            as many, or one for each range that holds keys.

    Returns:
        The ranges, in order, which cover all keys of `ranges`.

    Raises:
        OSError: the object store failed.
    """
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS) as threads:
        firsts = threads.map(lambda keys: _next_key(folder, keys.after, keys.until), ranges)
        nodes = [
            _Node(keys, posixpath.commonprefix([keys.after, keys.until or ""]), first)
            for keys, first in zip(ranges, firsts, strict=True)
            if first is not None
        ]
        while len(nodes) < parts:
            children = list(threads.map(lambda node: _children(folder, node), nodes))
            if all(child == [node] for child, node in zip(children, nodes, strict=True)):
                break
            nodes = [each for child in children for each in child]
    step = max(1, len(nodes) // parts)
    return [
        each
        for keys, group in groupby(nodes, key=lambda node: node.keys)
        for each in keys.cut([node.prefix for node in group][step::step])
    ]


def _children(folder: Location, node: _Node) -> list[_Node]:
    """Return the prefixes that are one character longer, or the node itself if there is no other.

    A single one is lengthened by all that its keys have in common.
    """
    prefix, found, first = node.prefix, list[_Node](), node.first

    def next_key(after: str) -> str | None:
        key = _next_key(folder, after, node.keys.until)
        return key if key is not None and key.startswith(prefix) else None

    key = next_key(prefix) if first == prefix else first
    while key is not None and len(found) < _MAX_CHILDREN:
        found.append(_Node(node.keys, key[: len(prefix) + 1], key))
        beyond = _after_all(found[-1].prefix)
        key = None if beyond is None else next_key(beyond)
    if not found:
        return [node]
    if len(found) > 1:
        return found
    first = found[0].first
    shared, longest = len(prefix) + 1, len(first)
    while shared < longest:
        middle = (shared + longest + 1) // 2
        beyond = _after_all(first[:middle])
        if beyond is None or next_key(beyond) is None:
            shared = middle
        else:
            longest = middle - 1
    return [_Node(node.keys, first[:shared], first)]


def _after_all(prefix: str) -> str | None:
    """Return a text after all keys that begin with a prefix; None if there is none.

    A key may be equal to it, which a search for the next key then leaves out. This changes where
    a range is split, and no more.
    """
    following = ord(prefix[-1]) + 1
    if following > 0x10FFFF:
        return None
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)


def _next_key(folder: Location, after: str, until: str | None) -> str | None:
    """Return the first key after a text, relative to the folder, up to a last one."""
    prefix = key_prefix(folder)
    start = {"StartAfter": prefix + after} if prefix + after else {}
    answer = call_s3(folder.uri, "list_objects_v2", Prefix=prefix, MaxKeys=1, **start)
    keys = [entry["Key"].removeprefix(prefix) for entry in answer.get("Contents", [])]
    return keys[0] if keys and (until is None or keys[0] <= until) else None
