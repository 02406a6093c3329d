"""Embeddings kept from night to night, by the content of an image and the model.

A store is a sequence of parts, `parts/NUMBER.parquet`. A part has images that were seen and, of
those whose content was new to a model, the embedding and the attribute codes; one write commits
both. A run that is killed leaves a store that the next one goes on with.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.inference.predictions import Predictions, PredictionShape
from reidray.scoring.store.legacy_layout import convert_legacy
from reidray.scoring.store.part_file import (
    CONTENT,
    EMBEDDED_COLUMNS,
    IMAGES_SCHEMA,
    NO_CONTENTS,
    Deletion,
    PartRows,
    new_part,
    read_predictions,
    read_rows,
)
from reidray.scoring.store.part_storage import Part, PartFolder, PartStorage, TemporaryPartStorage
from reidray.scoring.store.store_files import remove_temporary
from reidray.storage.location import Location
from reidray.storage.publishing import exclusive_writer

Rows = NDArray[np.int64]

SEEN_COLUMNS = [name for name in IMAGES_SCHEMA.names if name != "folder"]

_logger = logging.getLogger(__name__)


@contextmanager
def open_parts(uri: str) -> Iterator[PartStorage]:
    """Open the parts of a store for writing, which nobody else writes meanwhile.

    Raises:
        UserError: somebody else is writing it, it cannot be written, or a file is damaged.
    """
    location = Location(uri)
    with exclusive_writer(location):
        remove_temporary(location)
        log = PartFolder(location)
        convert_legacy(location, log)
        yield log


@contextmanager
def open_temporary_parts(folder: Path) -> Iterator[PartStorage]:
    """Open parts that are gone at the end, or when the process is killed.

    Args:
        folder: on the disk that has room for them; no name of a file appears there.
    """
    with TemporaryFile(dir=folder) as file:
        yield TemporaryPartStorage(file)


class EmbeddingStore:
    """The embeddings of one model in a store, those that are there and those that come.

    A content has a row, counted from 0 over the embeddings of all parts in their order.

    Attributes:
        shape: what the model says of one image.
    """

    def __init__(
        self,
        parts: PartStorage,
        model_id: str,
        shape: PredictionShape,
        folders: Sequence[str] = (),
        *,
        replace_existing: bool = False,
    ) -> None:
        """Open a store, which may be empty.

        Args:
            parts: of the store.
            model_id: names the model.
            shape: what it says of one image.
            folders: whose images are looked up by `take_seen`.
            replace_existing: begin without what is there, which `remove_replaced` then removes.

        Raises:
            UserError: a part is damaged.
        """
        self.shape = shape
        self._store, self._model = parts, model_id
        self._parts: list[Part] = []
        self._earlier: list[Part] = []
        self._others: list[Part] = []
        self._lengths: list[int] = []
        self._contents: list[pa.Array] = []
        self._seen: dict[str, list[pa.Table]] = {folder: [] for folder in folders}
        columns = ["content"] if replace_existing else IMAGES_SCHEMA.names
        for part in parts.find():
            rows = parts.read(part, lambda file: read_rows(file, [*columns, "doubt"]))
            if isinstance(rows, Deletion):
                _logger.warning(
                    "a deletion that was begun on %s is not complete: run jobs/forget.py again",
                    rows.begun,
                )
            elif rows.model != model_id:
                self._others.append(part)
            elif replace_existing:
                self._earlier.append(part)
            else:
                self._keep(part, rows.table["content"].filter(rows.embedded).combine_chunks())
            if isinstance(rows, PartRows) and not replace_existing:
                self._see(rows.table)
        # In one piece, so that the memory of what was seen beside it can be given back.
        self._contents = [pa.concat_arrays([NO_CONTENTS, *self._contents])]

    @property
    def contents(self) -> pa.ChunkedArray:
        """The content of each row, 32 bytes each."""
        return pa.chunked_array(self._contents, CONTENT)

    def rows_of(self, contents: pa.Array) -> Rows:
        """(N,) the row of each content; -1 where it has none."""
        found = pc.index_in(contents, value_set=self.contents)
        return np.asarray(pc.fill_null(found, -1).cast(pa.int64()))

    def take_seen(self, folder: str) -> pa.Table:
        """Hand over which file of a folder held which content, by all that the store has seen.

        Returns:
            `path`, `stamp`, `content` and `reason`, the latest first.
        """
        empty = IMAGES_SCHEMA.empty_table().select(SEEN_COLUMNS)
        return pa.concat_tables([empty, *reversed(self._seen.pop(folder, []))])

    def append(self, images: pa.Table, predictions: Predictions) -> None:
        """Keep images that were seen, and what the model says of the first of them, for good.

        Args:
            images: N rows of `IMAGES_SCHEMA`.
            predictions: of the first M images, which have a content.

        Raises:
            UserError: another run has begun to write the store.
        """
        if not len(images):
            return
        rows = new_part(images, predictions, self.shape, self._model)
        part = self._store.append(rows.to_parquet())
        self._keep(part, images["content"][: len(predictions)].combine_chunks())

    def remove_replaced(self) -> None:
        """Remove what was there before a store that was opened replace_existing.

        A name stays where another model has an embedding of the same content.
        """
        if not self._earlier:
            return
        others = [self._read(part, ["content", "doubt"]) for part in self._others]
        kept = pa.concat_arrays([NO_CONTENTS, *(_embedded_contents(rows) for rows in others)])
        for part in self._earlier:
            rows = self._read(part, IMAGES_SCHEMA.names)
            left = rows.where(pc.is_in(rows.table["content"].combine_chunks(), kept))
            self._store.replace(part, left.to_parquet() if len(left.table) else b"")
        self._earlier = []

    def gather(self, rows: Rows) -> Iterator[tuple[Rows, Predictions]]:
        """What is kept in some rows, a part of the store at a time.

        Args:
            rows: (N,) in any order; one may be there more than once.

        Yields:
            Places in `rows`, ascending, (M,), and what is kept of these.

        Raises:
            UserError: another run has changed the store.
        """
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        ends = np.cumsum(self._lengths)
        for part, start, end in zip(self._parts, ends - self._lengths, ends, strict=True):
            first, last = np.searchsorted(ordered, [start, end])
            places = np.sort(order[first:last])
            if len(places):
                found = self._store.read(part, self._read_predictions)
                if len(found) != end - start:
                    raise self._store.taken_over()
                yield places, found.take(rows[places] - start)

    def _read_predictions(self, file: pa.NativeFile) -> Predictions:
        rows = read_rows(file, EMBEDDED_COLUMNS)
        assert isinstance(rows, PartRows)
        return read_predictions(rows, self.shape)

    def _read(self, part: Part, columns: Sequence[str]) -> PartRows:
        rows = self._store.read(part, lambda file: read_rows(file, columns))
        assert isinstance(rows, PartRows)
        return rows

    def _keep(self, part: Part, contents: pa.Array) -> None:
        self._parts.append(part)
        self._lengths.append(len(contents))
        self._contents.append(contents)

    def _see(self, table: pa.Table) -> None:
        stamped = pc.not_equal(table["stamp"], "")
        for folder, tables in self._seen.items():
            chosen = pc.and_(stamped, pc.equal(table["folder"], folder))
            tables.append(table.select(SEEN_COLUMNS).filter(chosen))


def _embedded_contents(rows: PartRows) -> pa.Array:
    return rows.table["content"].filter(rows.embedded).combine_chunks()


@dataclass(frozen=True)
class KnownImages:
    """What is known of the files of a folder, by their names and stamps.

    Attributes:
        contents: N digests of 32 bytes, null where a file is new or has changed.
        reasons: why it is no picture, null where it is one or not known.
    """

    contents: pa.Array
    reasons: pa.Array


def look_up_images(seen: pa.Table, paths: pa.Array, stamps: pa.Array) -> KnownImages:
    """What is known of some files; of an empty stamp nothing is.

    Args:
        seen: which file of their folder held which content, the latest first.
        paths: N, relative to it.
        stamps: N, of `Location.read_stamps`.
    """
    places = pc.index_in(paths, value_set=seen["path"])  # the first, which is the latest
    same = pc.fill_null(pc.equal(seen["stamp"].take(places), stamps), False)
    contents, reasons = (
        pc.if_else(same, seen[name].take(places), pa.scalar(None, seen[name].type))
        for name in ("content", "reason")
    )
    return KnownImages(contents.combine_chunks(), reasons.combine_chunks())
