"""Delete what a store holds of an image, of a person or of a time, and check that it is gone.

A deletion has five steps. After a failure a later run can go on with each of them:

1. It claims the next part number, so that no earlier writer can add a part. It removes all kept
   rankings: they name images, and the next run can compute them again.
2. It adds a part that lists the rows to delete, and records the beginning in the deletion log.
3. It rewrites every part that holds some of it, and searches all parts.
4. It empties the part of step 2, and removes old versions, temporary files and unfinished uploads.
5. It records the completion in the deletion log.

The next deletion, of any kind, completes a deletion that was killed after step 2.
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
from reidray.scoring.store.deletion_plan import deleted_addresses, plan_deletion
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
    check_unknown_files,
    find_files,
    remove_old_versions,
    remove_remains,
)
from reidray.storage.location import Location
from reidray.storage.locks.object_lock import LOCK_FILE
from reidray.storage.publishing import exclusive_writer

PLANNED_COLUMNS = [*IMAGES_SCHEMA.names, "doubt"]

_logger = logging.getLogger(__name__)


def forget(config: ForgetConfig) -> dict[str, Any]:
    """Delete from a store what a configuration names, check that it is gone, and record it.

    Returns:
        The number of images and embeddings deleted, of parts rewritten (`files`) and of kept
        rankings removed (`rankings`); the number of rows searched; the number of old versions and
        files of killed runs removed; and `nearest_left`, the smallest distance of an embedding that
        stayed to a deleted one, None where none stayed. It is 0 where another file holds the same
        image. A dry run returns what would be deleted.

    Raises:
        UserError: there is no store, it holds nothing that the configuration names, another run is
            writing it, or an object store does not let old versions be removed.
    """
    location = Location(config.store)
    _check_store(location)
    if config.dry_run:
        return _preview(config, location)
    with exclusive_writer(location):
        return _delete(config, PartFolder(location))


def _delete(config: ForgetConfig, folder: PartFolder) -> dict[str, Any]:
    location = folder.location
    folder.fence()
    rankings = folder.scan().rankings
    for ranking in rankings:
        folder.remove_ranking(ranking)
    num_uncommitted = folder.remove_uncommitted()
    unnamed = convert_legacy(location, folder)
    if unnamed:
        _logger.info("removed %d embeddings without a name that a killed run had left", unnamed)

    parts = list(_read_parts(folder, PLANNED_COLUMNS))
    deletions = [(part, rows) for part, rows in parts if isinstance(rows, Deletion)]
    deleted: list[PartRows] = []
    for _, unfinished in deletions:
        deleted += _rewrite_parts(folder, parts, unfinished)
        parts = list(_read_parts(folder, PLANNED_COLUMNS))
    planned = plan_deletion(config, _image_rows(parts), len(rankings))
    if planned is not None:
        deletions.append((folder.append(planned.to_parquet()), planned))
        deleted += _rewrite_parts(folder, parts, planned)

    num_searched = _check_deleted(folder, [deletion for _, deletion in deletions])
    for part, _ in deletions:
        folder.replace(part, b"")
    num_removed = num_uncommitted + remove_remains(location)
    completed = complete_records(location)
    remove_old_versions(location, DELETION_LOG)

    if planned is None:
        matching = [record for record in completed if record.forgot == config.kind]
        if not matching:
            raise _nothing_found(config, location)
        record = matching[-1]
        _logger.info(
            "completed what was begun on %s; nothing else of the name is left", record.when
        )
    else:
        record = _record_of(planned)
    return {
        "store": config.store,
        "forgot": config.kind,
        "images": record.images,
        "embeddings": record.embeddings,
        "files": record.files,
        "rankings": record.rankings,
        "searched": num_searched,
        "removed": num_removed,
        "nearest_left": _min_distance(folder, deleted),
    }


def _preview(config: ForgetConfig, location: Location) -> dict[str, Any]:
    """Return the counts of a deletion without deleting anything.

    Raises:
        UserError: the store holds nothing that the configuration names.
    """
    folder = PartFolder(location)
    parts = _image_rows(_read_parts(folder, PLANNED_COLUMNS))
    parts += [file.rows for file in read_legacy(location)]
    planned = plan_deletion(config, parts, len(folder.scan().rankings))
    if planned is None:
        raise _nothing_found(config, location)
    _logger.info(
        "would forget %d images and %d embeddings in %d parts, and remove %d kept rankings; "
        "nothing was changed",
        planned.images,
        planned.embeddings,
        planned.files,
        planned.rankings,
    )
    return {
        "store": config.store,
        "would_forget": config.kind,
        "images": planned.images,
        "embeddings": planned.embeddings,
        "files": planned.files,
        "rankings": planned.rankings,
        "names": sorted({name for rows in parts for name in deleted_addresses(planned, rows)}),
    }


def _check_store(location: Location) -> None:
    """Check that a folder is a store, and that no unknown file lies among its parts.

    Raises:
        UserError: the folder is no store, or the object store refuses to list old versions.
    """
    files = find_files(location)
    check_links(location, files.unknown)
    known = {*files.own, *files.temporary, *(version.path for version in files.old_versions)}
    if not known - {LOCK_FILE}:
        raise UserError(
            f"{location.uri}: is no store of embeddings; give what score_nightly has as `store`"
        )
    check_unknown_files(location, files.unknown)
    if files.unknown:
        _logger.warning(
            "%s: %d files there are no part of the store and are left alone; the first is %r",
            location.uri,
            len(files.unknown),
            files.unknown[0],
        )


def _read_parts(
    folder: PartFolder, columns: Sequence[str] | None = None
) -> Iterator[tuple[Part, PartRows | Deletion]]:
    """Yield the parts of a store with their contents, one at a time."""
    for part in folder.find():
        yield part, folder.read(part, lambda file: read_rows(file, columns))


def _image_rows(parts: Iterable[tuple[Part, PartRows | Deletion]]) -> list[PartRows]:
    """Return the contents of the parts that are no deletions."""
    return [rows for _, rows in parts if isinstance(rows, PartRows)]


def _rewrite_parts(
    folder: PartFolder, parts: Iterable[tuple[Part, PartRows | Deletion]], deletion: Deletion
) -> list[PartRows]:
    """Rewrite the parts that hold something of a deletion.

    Args:
        folder: the store.
        parts: its parts, with `PLANNED_COLUMNS`.
        deletion: the deletion.

    Returns:
        The rows whose embeddings were deleted.
    """
    record_deletion(folder.location, _record_of(deletion))
    deleted = []
    for part, images in parts:
        if isinstance(images, Deletion) or not deletion.affects(images):
            continue
        rows = folder.read(part, read_rows)
        assert isinstance(rows, PartRows)
        left = deletion.apply(rows)
        folder.replace(part, left.to_parquet() if len(left.table) else b"")
        deleted.append(rows.where(deletion.deletes_embedding(rows)))
    return deleted


def _check_deleted(folder: PartFolder, deletions: Sequence[Deletion]) -> int:
    """Check that a store holds no rows of some deletions, and return the number of rows read.

    Raises:
        RuntimeError: the store still holds rows of a deletion.
    """
    num_rows = 0
    for rows in _image_rows(_read_parts(folder, PLANNED_COLUMNS)):
        num_rows += len(rows.table)
        if any(deletion.affects(rows) for deletion in deletions):
            raise RuntimeError(f"{folder.uri}: still holds what was to be forgotten")
    return num_rows


def _min_distance(folder: PartFolder, deleted: Sequence[PartRows]) -> float | None:
    """Return the smallest distance of an embedding of a store to a deleted one of the same model.

    Returns:
        None where no embedding of these models is left.
    """
    from reidray.retrieval.numerics import single_thread
    from reidray.retrieval.partitioned_search import top_k_from_parts  # imports PyTorch

    found: list[float] = []
    deleted = [rows for rows in deleted if len(rows.table)]
    for model in {rows.model for rows in deleted}:
        query = np.concatenate(
            [read_embeddings(rows.table) for rows in deleted if rows.model == model]
        )
        left = (
            read_embeddings(rows.where(rows.embedded).table)
            for _, rows in _read_parts(folder, ["embedding", "doubt"])
            if isinstance(rows, PartRows) and rows.model == model and pc.any(rows.embedded).as_py()
        )
        for first in islice(left, 1):
            parts = ((np.arange(len(part)), part) for part in chain([first], left))
            with single_thread():  # parts are small: threads cost more than they save
                distances, _ = top_k_from_parts(query, parts, 1)
            found.append(float(distances.min()))
    return min(found, default=None)


def _record_of(deletion: Deletion) -> DeletionRecord:
    return DeletionRecord(
        deletion.begun,
        deletion.kind,
        deletion.images,
        deletion.embeddings,
        deletion.files,
        deletion.rankings,
    )


def _nothing_found(config: ForgetConfig, location: Location) -> UserError:
    if config.before is not None:
        return UserError(f"{location.uri}: holds nothing of the days before {config.before}")
    return UserError(f"{location.uri}: holds no {config.kind} of this name; check the name")
