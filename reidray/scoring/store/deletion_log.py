"""The audit of a store: a line for each forget, written as it begins and completed as it ends."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.locks import exclusive_files

DELETION_LOG = "forgotten.jsonl"


@dataclass(frozen=True)
class DeletionRecord:
    """Record what kind was forgotten, how much of it, and when; not whose it was.

    Attributes:
        when: it was begun.
        forgot: image, person or before.
        images: how many files.
        embeddings: how many embeddings.
        files: how many parts held them.
        completed: when a search found nothing of it any more; None where that is to be done yet.
    """

    when: str
    forgot: str
    images: int
    embeddings: int
    files: int
    completed: str | None = None


def record_deletion(location: Location, entry: DeletionRecord) -> None:
    """Add an entry, unless it is there already.

    Raises:
        UserError: another run has begun to write the store.
    """
    _rewrite(location, lambda entries: entries if _has(entries, entry) else [*entries, entry])


def complete_records(location: Location) -> list[DeletionRecord]:
    """Complete all entries that are not complete, and return these.

    Raises:
        UserError: another run has begun to write the store.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    begun = [entry for entry in _read(location) if entry.completed is None]
    if begun:
        _rewrite(
            location,
            lambda entries: [
                entry if entry.completed else replace(entry, completed=now) for entry in entries
            ],
        )
    return begun


def _has(entries: list[DeletionRecord], entry: DeletionRecord) -> bool:
    return any((each.when, each.forgot) == (entry.when, entry.forgot) for each in entries)


def _rewrite(
    location: Location, change: Callable[[list[DeletionRecord]], list[DeletionRecord]]
) -> None:
    tag = exclusive_files.read_tag(location, DELETION_LOG)
    entries = _read(location)
    data = "".join(json.dumps(asdict(entry)) + "\n" for entry in change(entries)).encode()
    if tag is None:
        written = exclusive_files.create(location, DELETION_LOG, data)
    else:
        written = exclusive_files.replace(location, DELETION_LOG, data, tag)
    if written is None:
        raise UserError(f"{location.uri}: another run began to write it; run it again")


def _read(location: Location) -> list[DeletionRecord]:
    """The entries; those of earlier versions were written when they were complete.

    Raises:
        UserError: the file is damaged.
    """
    if exclusive_files.read_tag(location, DELETION_LOG) is None:
        return []
    entries = []
    try:
        for line in location.read_bytes(DELETION_LOG).decode().splitlines():
            values = json.loads(line)
            entries.append(DeletionRecord(**{"completed": values["when"]} | values))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{location.join(DELETION_LOG).uri}: is damaged ({error!r}); repair it, or move it away"
        ) from error
    return entries
