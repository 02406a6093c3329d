"""Write an object only if no other writer has written it (compare and swap).

An object store may execute a request and lose the response. The client sends such a request
again, and its condition then fails because of the first request. The metadata of every
object therefore hold the id of its writer. After a failed condition the client reads that id to see
whose write succeeded.
"""

from dataclasses import dataclass

from reidray.storage.object_store import ConditionFailedError, call_s3
from reidray.storage.paths import key_of


@dataclass(frozen=True)
class ObjectState:
    """Hold the state of an object.

    Attributes:
        tag: its ETag, which changes whenever the object is written.
        writer: the id of its writer; empty where the object has none.
    """

    tag: str
    writer: str


def create_object(uri: str, data: bytes, writer: str) -> str | None:
    """Write an object if there is none at the address.

    Args:
        uri: the address of the object.
        data: its contents.
        writer: the id of the writer, which no other writer may use.

    Returns:
        The tag of the object; None if another writer's object exists.

    Raises:
        OSError: the store failed after all retries.
    """
    return _put(uri, data, writer, IfNoneMatch="*")


def replace_object(uri: str, data: bytes, tag: str, writer: str) -> str | None:
    """Replace an object if it still has a tag.

    Args:
        uri: the address of the object.
        data: its new contents.
        tag: the tag of the object to replace.
        writer: the id of the writer, which no other writer may use.

    Returns:
        The tag of the new object; None if another writer has changed or deleted the old one.

    Raises:
        OSError: the store failed after all retries.
    """
    return _put(uri, data, writer, IfMatch=tag)


def object_state(uri: str) -> ObjectState | None:
    """Return the state of an object; None if it does not exist.

    Raises:
        OSError: the store failed after all retries.
    """
    try:
        found = call_s3(uri, "head_object", Key=key_of(uri))
    except FileNotFoundError:
        return None
    return ObjectState(str(found["ETag"]), found.get("Metadata", {}).get("writer", ""))


def _put(uri: str, data: bytes, writer: str, **condition: str) -> str | None:
    metadata = {"writer": writer}
    try:
        written = call_s3(
            uri, "put_object", Key=key_of(uri), Body=data, Metadata=metadata, **condition
        )
    except ConditionFailedError:
        found = object_state(uri)
        return found.tag if found is not None and found.writer == writer else None
    return str(written["ETag"])
