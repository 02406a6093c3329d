"""Deleting what a store knows of an image, of a person or of a time, and proving it."""

import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.identities import read_number
from reidray.data.layouts.names import person_and_camera_of
from reidray.data.publishing import only_writer_of
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.retrieval.search import top_k_of_parts
from reidray.scoring.config import ForgetConfig
from reidray.scoring.digests import HASH_BYTES
from reidray.scoring.parted_table import PartedTable, day_of
from reidray.scoring.store import IMAGES_FOLDER, embeddings_of, embeddings_tables, images_table

AUDIT_FILE = "forgotten.jsonl"
NO_CONTENTS = pa.array([], pa.binary(HASH_BYTES))


def forget(config: ForgetConfig) -> dict[str, Any]:
    """Delete what was asked for from a store, search for it in vain, and write an audit line.

    Returns:
        How many images and embeddings were deleted and how many files rewritten; how many rows were
        searched; and the least distance of an embedding that stayed to one that was deleted, None
        where none stayed. It is 0 where another file holds the same picture.

    Raises:
        UserError: there is no store, it holds nothing of the kind, or a night is writing it.
    """
    location = Location(config.store)
    if not location.join(IMAGES_FOLDER).is_folder():
        raise UserError(
            f"{location.uri}: is no store of embeddings; give what score_nightly has as --store"
        )
    with only_writer_of(location):
        images, models = images_table(location), embeddings_tables(location)
        contents = _contents_of(config, images, models)
        deletions = [_delete(table, _chosen(config, contents)) for table in models]
        names = contents if config.before is None else _without_embedding(config, images, models)
        named = _delete(images, lambda _part, rows: pc.is_in(rows["content"], names))
        searched = sum(_search(table, _chosen(config, contents)) for table in models) + _search(
            images, lambda _part, rows: pc.is_in(rows["content"], names)
        )
        figures = {
            "images": len(named.rows),
            "embeddings": sum(len(deletion.rows) for deletion in deletions),
            "files": named.files + sum(deletion.files for deletion in deletions),
        }
        _write_audit(location, {"forgot": config.kind, **figures})
        nearest = [_nearest(*pair) for pair in zip(models, deletions, strict=True)]
    return {
        "store": config.store,
        "forgot": config.kind,
        **figures,
        "searched": searched,
        "nearest_left": min((one for one in nearest if one is not None), default=None),
    }


Choice = Callable[[str, pa.Table], pa.BooleanArray]
"""Tells which rows of a part shall go."""


@dataclass(frozen=True)
class _Deletion:
    """What was deleted from a table: the rows, and of how many files."""

    rows: pa.Table
    files: int


def _chosen(config: ForgetConfig, contents: pa.Array) -> Choice:
    """The embeddings that shall go."""
    before = config.before
    if before is None:
        return lambda _part, rows: pc.is_in(rows["content"], contents)
    return lambda part, rows: pa.array([day_of(part) < before] * len(rows), pa.bool_())


def _delete(table: PartedTable, choice: Choice) -> _Deletion:
    """Rewrite the parts that hold rows that shall go, or remove them where none stays."""
    deleted = []
    for part in table.parts():
        rows = table.read(part)
        going = choice(part, rows)
        if not pc.any(going).as_py():
            continue
        deleted.append(rows.filter(going))
        left = rows.filter(pc.invert(going))
        if len(left):
            table.rewrite(part, left)
        else:
            table.location.delete_file(part)
        table.location.delete_old_versions(part)
    rows = pa.concat_tables(deleted) if deleted else table.schema.empty_table()
    return _Deletion(rows, len(deleted))


def _contents_of(
    config: ForgetConfig, images: PartedTable, models: Sequence[PartedTable]
) -> pa.Array:
    """What the images that shall be forgotten hold; nothing where a day is meant.

    Raises:
        UserError: the store has none.
    """
    uri = images.location.uri
    if config.before is not None:
        days = [day_of(part) for table in (images, *models) for part in table.parts()]
        if min(days, default=config.before) >= config.before:
            raise UserError(f"{uri}: holds nothing of the days before {config.before}")
        return NO_CONTENTS
    found: set[bytes] = set()
    for part in images.parts():
        rows = images.read(part, ["folder", "path", "content"])
        names = zip(rows["folder"].to_pylist(), rows["path"].to_pylist(), strict=True)
        meant = [_is_meant(config, folder, path) for folder, path in names]
        found.update(rows["content"].filter(pa.array(meant, pa.bool_())).to_pylist())
    if not found:
        raise UserError(f"{uri}: holds no {config.kind} of this name; check the name")
    return pa.array(sorted(found), pa.binary(HASH_BYTES))


def _is_meant(config: ForgetConfig, folder: str, path: str) -> bool:
    """Whether it is the image, or one of the person."""
    if config.image is not None:
        return config.image in (path, posixpath.join(folder, path))
    person = config.person or ""
    known = person_and_camera_of(path)
    if known is not None:
        number = read_number(person)
        if known.person == person or (number is not None and read_number(known.person) == number):
            return True
    return posixpath.basename(posixpath.dirname(path)) == person


def _without_embedding(
    config: ForgetConfig, images: PartedTable, models: Sequence[PartedTable]
) -> pa.Array:
    """Contents seen before a day of which no embedding is left: their names shall go as well."""
    before = config.before or ""
    old = [
        images.read(part, ["content"])["content"]
        for part in images.parts()
        if day_of(part) < before
    ]
    left = [table.read(part, ["content"])["content"] for table in models for part in table.parts()]
    names, embedded = _joined(old), _joined(left)
    return names.filter(pc.invert(pc.is_in(names, embedded)))


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    return pa.concat_arrays([NO_CONTENTS, *(chunk for part in columns for chunk in part.chunks)])


def _search(table: PartedTable, choice: Choice) -> int:
    """Read a table again for what must not be in it; returns how many rows that were.

    Raises:
        RuntimeError: it is still there.
    """
    searched = 0
    for part in table.parts():
        rows = table.read(part)
        searched += len(rows)
        if pc.any(choice(part, rows)).as_py():
            raise RuntimeError(f"{part} still holds what was to be forgotten")
    return searched


def _nearest(table: PartedTable, deletion: _Deletion) -> float | None:
    """The least distance of an embedding that stayed to one that was deleted."""
    parts = table.parts()
    if not parts or not len(deletion.rows):
        return None
    left = (embeddings_of(table.read(part, ["embedding"])) for part in parts)
    query = embeddings_of(deletion.rows)
    distances, _ = top_k_of_parts(query, ((np.arange(len(part)), part) for part in left), 1)
    return float(distances.min())


def _write_audit(location: Location, entry: dict[str, Any]) -> None:
    """Add a line on what kind was forgotten, how much of it, and when; not whose it was."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = location.read_bytes(AUDIT_FILE) if AUDIT_FILE in location.list_children() else b""
    line = json.dumps({"when": now, **entry}).encode() + b"\n"
    location.write_bytes(AUDIT_FILE, before + line)
