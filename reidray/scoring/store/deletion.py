"""Delete what a store holds of an image, of a person or of a time, and check that it is gone.

A forget goes through steps, each of which a later run can go on with:

1. It claims the next part number, so that no earlier writer can add a part any more.
2. It adds a part that lists what is to be deleted, and writes the audit entry as begun.
3. It rewrites every part that holds some of it, and searches all parts.
4. It empties the part of step 2, and removes old versions, temporary files and unfinished uploads.
5. It completes the audit entry.

A run that was killed after step 2 is completed by the next forget, whatever that one is asked for.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow.compute as pc

from reidray.config.scoring import ForgetConfig
from reidray.errors import UserError
from reidray.scoring.store.deletion_log import (
    DELETION_LOG,
    DeletionRecord,
    complete_records,
    record_deletion,
)
from reidray.scoring.store.deletion_plan import names_going, plan_deletion
from reidray.scoring.store.legacy_layout import convert_legacy, read_legacy
from reidray.scoring.store.part_file import (
    IMAGES_SCHEMA,
    Deletion,
    PartRows,
    read_embeddings,
    read_rows,
)
from reidray.scoring.store.part_storage import Part, PartFolder
from reidray.scoring.store.store_files import (
    check_links,
    check_others,
    find_files,
    remove_old,
    remove_old_versions,
)
from reidray.storage.location import Location
from reidray.storage.locks.object_lock import LOCK_FILE
from reidray.storage.publishing import exclusive_writer

PLANNED_COLUMNS = [*IMAGES_SCHEMA.names, "doubt"]

_logger = logging.getLogger(__name__)


def forget(config: ForgetConfig) -> dict[str, Any]:
    """Delete what was asked for from a store, check that it is gone, and write an audit line.

    Returns:
        How many images and embeddings were deleted and how many parts rewritten; how many rows were
        searched; how many old versions and files of killed runs were removed; and the least
        distance of an embedding that stayed to one that was deleted, None where none stayed. It is
        0 where another file holds the same picture. A dry run returns what would go.

    Raises:
        UserError: there is no store, it holds nothing of the kind, a night is writing it, or an
            object store does not let old versions be removed.
    """
    location = Location(config.store)
    _check_store(location)
    if config.dry_run:
        return _preview(config, location)
    with exclusive_writer(location):
        return _forget(config, PartFolder(location))


def _forget(config: ForgetConfig, log: PartFolder) -> dict[str, Any]:
    location = log.location
    log.fence()
    nameless = convert_legacy(location, log)
    if nameless:
        _logger.info("removed %d embeddings without a name that a killed run had left", nameless)
    parts = list(_read_all(log, PLANNED_COLUMNS))
    begun = [(part, rows) for part, rows in parts if isinstance(rows, Deletion)]
    gone = []
    for _, deletion in begun:
        gone += _apply(log, parts, deletion)
        parts = list(_read_all(log, PLANNED_COLUMNS))
    planned = plan_deletion(config, _images(parts))
    if planned is not None:
        begun.append((log.append(planned.to_parquet()), planned))
        gone += _apply(log, parts, planned)
    searched = _search(log, [deletion for _, deletion in begun])
    for part, _ in begun:
        log.replace(part, b"")
    removed = remove_old(location)
    completed = complete_records(location)
    remove_old_versions(location, DELETION_LOG)
    if planned is None:
        matching = [entry for entry in completed if entry.forgot == config.kind]
        if not matching:
            raise _nothing_found(config, location)
        entry = matching[-1]
        _logger.info("completed what was begun on %s; nothing else of the name is left", entry.when)
    else:
        entry = _entry_of(planned)
    return {
        "store": config.store,
        "forgot": config.kind,
        "images": entry.images,
        "embeddings": entry.embeddings,
        "files": entry.files,
        "searched": searched,
        "removed": removed,
        "nearest_left": _nearest(log, gone),
    }


def _preview(config: ForgetConfig, location: Location) -> dict[str, Any]:
    """Say what would be deleted; nothing is changed."""
    log = PartFolder(location)
    parts = _images(_read_all(log, PLANNED_COLUMNS))
    parts += [file.rows for file in read_legacy(location)]
    planned = plan_deletion(config, parts)
    if planned is None:
        raise _nothing_found(config, location)
    _logger.info(
        "would forget %d images and %d embeddings in %d parts; nothing was changed",
        planned.images,
        planned.embeddings,
        planned.files,
    )
    return {
        "store": config.store,
        "would_forget": config.kind,
        "images": planned.images,
        "embeddings": planned.embeddings,
        "files": planned.files,
        "names": sorted({name for rows in parts for name in names_going(planned, rows)}),
    }


def _check_store(location: Location) -> None:
    """Refuse what is no store, and files among its parts that nobody knows.

    Raises:
        UserError: says so, or that an object store does not let old versions be listed.
    """
    files = find_files(location)
    check_links(location, files.others)
    known = {*files.own, *files.temporary, *(version.path for version in files.old)}
    if not known - {LOCK_FILE}:
        raise UserError(
            f"{location.uri}: is no store of embeddings; give what score_nightly has as --store"
        )
    check_others(location, files.others)
    if files.others:
        _logger.warning(
            "%s: %d files there are no part of the store and are left alone; the first is %r",
            location.uri,
            len(files.others),
            files.others[0],
        )


def _read_all(
    log: PartFolder, columns: Sequence[str] | None = None
) -> Iterator[tuple[Part, PartRows | Deletion]]:
    """Read the parts of a store, one at a time."""
    for part in log.find():
        yield part, log.read(part, lambda file: read_rows(file, columns))


def _images(parts: Iterable[tuple[Part, PartRows | Deletion]]) -> list[PartRows]:
    """The rows of parts that are no deletions."""
    return [rows for _, rows in parts if isinstance(rows, PartRows)]


def _apply(
    log: PartFolder, parts: Iterable[tuple[Part, PartRows | Deletion]], deletion: Deletion
) -> list[PartRows]:
    """Rewrite the parts that hold some of what shall go.

    Args:
        log: the store.
        parts: of it, with the images' columns and `doubt`.
        deletion: what shall go.

    Returns:
        The rows whose embeddings were deleted.
    """
    record_deletion(log.location, _entry_of(deletion))
    gone = []
    for part, images in parts:
        if isinstance(images, Deletion) or not deletion.affects(images):
            continue
        rows = log.read(part, read_rows)
        assert isinstance(rows, PartRows)
        left = deletion.apply(rows)
        log.replace(part, left.to_parquet() if len(left.table) else b"")
        gone.append(rows.where(deletion.deletes_embedding(rows)))
    return gone


def _search(log: PartFolder, deletions: Sequence[Deletion]) -> int:
    """Read the store again for what must not be in it; returns how many rows that were.

    Raises:
        RuntimeError: it is still there.
    """
    searched = 0
    for rows in _images(_read_all(log, PLANNED_COLUMNS)):
        searched += len(rows.table)
        if any(deletion.affects(rows) for deletion in deletions):
            raise RuntimeError(f"{log.uri}: still holds what was to be forgotten")
    return searched


def _nearest(log: PartFolder, gone: Sequence[PartRows]) -> float | None:
    """The least distance of an embedding that stayed to one of the same model that is gone."""
    from reidray.retrieval.numerics import single_thread
    from reidray.retrieval.partitioned_search import top_k_from_parts  # imports PyTorch

    least: list[float] = []
    for model in {rows.model for rows in gone if len(rows.table)}:
        query = np.concatenate(
            [
                read_embeddings(rows.table)
                for rows in gone
                if rows.model == model and len(rows.table)
            ]
        )
        left = (
            read_embeddings(rows.where(rows.embedded).table)
            for _, rows in _read_all(log, ["embedding", "doubt"])
            if isinstance(rows, PartRows) and rows.model == model and pc.any(rows.embedded).as_py()
        )
        for first in islice(left, 1):
            parts = ((np.arange(len(part)), part) for part in chain([first], left))
            with single_thread():  # parts are small: threads cost more than they save
                distances, _ = top_k_from_parts(query, parts, 1)
            least.append(float(distances.min()))
    return min(least, default=None)


def _entry_of(deletion: Deletion) -> DeletionRecord:
    return DeletionRecord(
        deletion.begun, deletion.kind, deletion.images, deletion.embeddings, deletion.files
    )


def _nothing_found(config: ForgetConfig, location: Location) -> UserError:
    if config.before is not None:
        return UserError(f"{location.uri}: holds nothing of the days before {config.before}")
    return UserError(f"{location.uri}: holds no {config.kind} of this name; check the name")
