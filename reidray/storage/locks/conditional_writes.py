"""Writes to an object store that succeed only while nobody else has written the same object.

A store carries out some requests whose answers are lost on the way. The client sends such a
request again, and its condition then fails because of the first one. Every object therefore carries
the name of its writer, which is read back before a failed condition is believed.
"""

from dataclasses import dataclass

from reidray.storage.object_store import ConditionFailedError, call_s3, key_of


@dataclass(frozen=True)
class ObjectState:
    """The state of an object.

    Attributes:
        tag: its ETag, which changes whenever the object is written.
        writer: who wrote it; empty where that is not known.
    """

    tag: str
    writer: str


def create_object(uri: str, data: bytes, writer: str) -> str | None:
    """Put an object where there is none.

    Args:
        uri: its address.
        data: its contents.
        writer: names the writer; no other writer may use the name.

    Returns:
        The tag of the object; None where somebody else's object is there.

    Raises:
        OSError: the store failed, for good.
    """
    return _put(uri, data, writer, IfNoneMatch="*")


def replace_object(uri: str, data: bytes, tag: str, writer: str) -> str | None:
    """Put an object in the place of one that nobody has changed.

    Args:
        uri: its address.
        data: its contents.
        tag: of the object that is to be replaced.
        writer: names the writer; no other writer may use the name.

    Returns:
        The tag of the new object; None where somebody else changed or deleted the old one.

    Raises:
        OSError: the store failed, for good.
    """
    return _put(uri, data, writer, IfMatch=tag)


def object_state(uri: str) -> ObjectState | None:
    """Return the state of an object; None where there is none.

    Raises:
        OSError: the store failed, for good.
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
