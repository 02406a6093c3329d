"""Write the deletion log of a store, `forgotten.jsonl`.

A deletion writes a line when it begins, and completes the line when it ends.
"""

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
    """Record the kind, the amount and the times of a deletion, but not the person.

    Attributes:
        when: time when it began.
        forgot: `image`, `person` or `before`.
        images: number of image files.
        embeddings: number of embeddings.
        files: number of parts that held them.
        rankings: number of kept rankings that were removed.
        completed: time when a search found nothing of it any more; None before.
    """

    when: str
    forgot: str
    images: int
    embeddings: int
    files: int
    rankings: int = 0
    completed: str | None = None


def record_deletion(location: Location, record: DeletionRecord) -> None:
    """Add a record to the log, unless it is there already.

    Raises:
        UserError: another run writes the store.
    """

    def add(records: list[DeletionRecord]) -> list[DeletionRecord]:
        same = ((each.when, each.forgot) == (record.when, record.forgot) for each in records)
        return records if any(same) else [*records, record]

    _rewrite(location, add)


def complete_records(location: Location) -> list[DeletionRecord]:
    """Complete all records that are not complete, and return them.

    Raises:
        UserError: another run writes the store.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    incomplete = [record for record in _read(location) if record.completed is None]
    if incomplete:
        _rewrite(
            location,
            lambda records: [
                record if record.completed else replace(record, completed=now) for record in records
            ],
        )
    return incomplete


def _rewrite(
    location: Location, change: Callable[[list[DeletionRecord]], list[DeletionRecord]]
) -> None:
    tag = exclusive_files.read_tag(location, DELETION_LOG)
    records = change(_read(location))
    data = "".join(json.dumps(asdict(record)) + "\n" for record in records).encode()
    if tag is None:
        written = exclusive_files.create(location, DELETION_LOG, data)
    else:
        written = exclusive_files.replace(location, DELETION_LOG, data, tag)
    if written is None:
        raise UserError(f"{location.uri}: another run began to write it; run it again")


def _read(location: Location) -> list[DeletionRecord]:
    """Return the records. Earlier versions wrote a record when it was complete.

    Raises:
        UserError: the file is damaged.
    """
    if exclusive_files.read_tag(location, DELETION_LOG) is None:
        return []
    records = []
    try:
        for line in location.read_bytes(DELETION_LOG).decode().splitlines():
            values = json.loads(line)
            records.append(DeletionRecord(**{"completed": values["when"]} | values))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{location.join(DELETION_LOG).uri}: is damaged ({error!r}); repair it, or move it away"
        ) from error
    return records
