"""Convert a store of the earlier layout to parts.

Such a store has images in `images/day=DAY/*.parquet`, and embeddings in
`embeddings/model=ID/day=DAY/*.parquet`. A killed run may have left embeddings without an image
there. The people on them are unknown, so the conversion removes them.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reidray.errors import UserError
from reidray.scoring.store.part_file import DIGEST, EMBEDDED_COLUMNS, IMAGES_SCHEMA, PartRows
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location
from reidray.storage.locks.exclusive_files import list_entries

IMAGES_FOLDER, EMBEDDINGS_FOLDER = "images", "embeddings"
_FILE = re.compile(r"(?:images|embeddings/model=([^/]+))/day=(\d{4}-\d\d-\d\d)/[^/.][^/]*\.parquet")


@dataclass(frozen=True)
class LegacyFile:
    """Hold a file of the earlier layout.

    Attributes:
        path: path relative to the store.
        rows: its contents as rows of a part.
        num_unnamed: number of its embeddings without an image.
    """

    path: str
    rows: PartRows
    num_unnamed: int = 0


def read_legacy(location: Location) -> Iterator[LegacyFile]:
    """Yield the files of the earlier layout, embeddings first.

    Raises:
        UserError: a file is damaged.
        OSError: the disk or the object store failed.
    """
    images, embeddings = (_files(location, each) for each in (IMAGES_FOLDER, EMBEDDINGS_FOLDER))
    seen = [_read(location, path, IMAGES_SCHEMA.names) for path in images]
    if embeddings:
        names = pa.concat_tables([IMAGES_SCHEMA.empty_table(), *reversed(seen)])
        for path in embeddings:
            table = _read(location, path, ["content", *EMBEDDED_COLUMNS])
            yield _named(path, table, names)
    for path, table in zip(images, seen, strict=True):
        yield LegacyFile(path, PartRows(table, "", _match(path)[2]))


def convert_legacy(location: Location, parts: PartFolder) -> int:
    """Convert the files of the earlier layout to parts, one by one.

    A run that is killed meanwhile loses nothing: the next run converts the files that are left.

    Args:
        location: the store.
        parts: its parts.

    Returns:
        The number of embeddings without an image, which are removed.

    Raises:
        UserError: a file is damaged, or another run writes the store.
        OSError: the disk or the object store failed.
    """
    num_unnamed = 0
    for file in read_legacy(location):
        if len(file.rows.table):
            parts.append(file.rows.to_parquet())
        location.delete_file(file.path)
        num_unnamed += file.num_unnamed
    if not location.is_remote:
        _remove_empty(Path(location.uri))
    return num_unnamed


def _named(path: str, table: pa.Table, names: pa.Table) -> LegacyFile:
    """Return embeddings with the latest image of each; an empty stamp keeps it from being found."""
    places = pc.index_in(table["content"], value_set=names["content"])
    found = pc.is_valid(places)
    known = names.take(places.filter(found)).select(["folder", "path"])
    table = table.filter(found)
    columns = {
        "folder": known["folder"],
        "path": known["path"],
        "stamp": pa.repeat("", len(table)),
        "content": table["content"],
        "reason": pa.nulls(len(table), pa.string()),
        **{name: table[name] for name in EMBEDDED_COLUMNS},
    }
    model, day = _match(path).groups()
    num_unnamed = len(places) - len(table)
    return LegacyFile(path, PartRows(pa.table(columns), model, day), num_unnamed)


def _files(location: Location, folder: str) -> list[str]:
    paths = (file.path for file in list_entries(location, folder))
    return [path for path in paths if _FILE.fullmatch(path)]


def _match(path: str) -> re.Match[str]:
    found = _FILE.fullmatch(path)
    assert found is not None
    return found


def _read(location: Location, path: str, columns: list[str]) -> pa.Table:
    try:
        table = location.read_with(
            path,
            lambda file: pq.ParquetFile(file).read(columns=columns, use_threads=False),
        ).select(columns)
        place = table.schema.get_field_index("content")
        return table.set_column(place, "content", table["content"].cast(DIGEST))
    except (pa.ArrowException, KeyError, OSError) as error:
        if isinstance(error, OSError):  # Arrow raises it for damage too: can it be read at all?
            location.read_bytes(path)
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.join(path).uri}: is not a part of a store ({reason}); remove it, and what "
            "it held is embedded again"
        ) from error


def _remove_empty(store: Path) -> None:
    """Remove the folders of the earlier layout that are empty."""
    for name in (IMAGES_FOLDER, EMBEDDINGS_FOLDER):
        folders = [*(store / name).rglob("model=*"), *(store / name).rglob("day=*")]
        for folder in [*sorted(folders, reverse=True), store / name]:
            with suppress(OSError):
                folder.rmdir()
