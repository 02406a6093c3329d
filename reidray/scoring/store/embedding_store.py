"""Keep the embeddings of a model from run to run, by the content of an image.

A store is a sequence of parts, `parts/NUMBER.parquet`. A part has images that a run has read and,
for those whose content was new to the model, the embedding and the attribute labels. One write
commits both. A run that is killed leaves a store that the next run goes on with.
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

from reidray.inference.image_batches import DIGEST_BYTES, Digests
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.scoring.store.legacy_layout import convert_legacy
from reidray.scoring.store.part_file import (
    DIGEST,
    EMBEDDED_COLUMNS,
    IMAGES_SCHEMA,
    NO_DIGESTS,
    Deletion,
    PartRows,
    build_part,
    embedded_digests,
    read_predictions,
    read_rows,
)
from reidray.scoring.store.part_storage import Part, PartFolder, PartStorage, TemporaryPartStorage
from reidray.scoring.store.store_files import remove_temporary
from reidray.storage.location import Location
from reidray.storage.publishing import exclusive_writer

Rows = NDArray[np.int64]
"""(N,) int64 rows of a store, counted from 0 over the embeddings of all parts in their order."""

KNOWN_COLUMNS = ["path", "stamp", "content", "reason"]

_logger = logging.getLogger(__name__)


@contextmanager
def open_parts(uri: str) -> Iterator[PartStorage]:
    """Open the parts of a store as its only writer.

    Args:
        uri: folder or s3:// URI of the store, which may be new.

    Raises:
        UserError: another run is writing the store, it cannot be written, or a file is damaged.
    """
    location = Location(uri)
    with exclusive_writer(location):
        remove_temporary(location)
        parts = PartFolder(location)
        convert_legacy(location, parts)
        yield parts


@contextmanager
def open_temporary_parts(folder: Path) -> Iterator[PartStorage]:
    """Open parts that disappear at the end, or when the process is killed.

    Args:
        folder: a folder on a disk with room for the parts; no file appears in it.
    """
    with TemporaryFile(dir=folder) as file:
        yield TemporaryPartStorage(file)


class EmbeddingStore:
    """Hold the embeddings of one model in a store, those of earlier runs and new ones.

    Attributes:
        shape: sizes of the model's predictions.
        other_ids: ids of the other embeddings that the store holds.
    """

    def __init__(
        self,
        parts: PartStorage,
        embedding_id: str,
        shape: PredictionShape,
        folders: Sequence[str] = (),
        *,
        replace_existing: bool = False,
    ) -> None:
        """Open a store, which may be empty.

        Args:
            parts: the parts of the store.
            embedding_id: id of the model and of the settings it embeds with, as
                `InferenceSettings.embedding_id` returns it.
            shape: sizes of the model's predictions.
            folders: folders whose images `images_in` returns.
            replace_existing: ignore the embeddings of the model that the store holds, and delete
                them in `remove_replaced`.

        Raises:
            UserError: a part is damaged.
        """
        self.shape = shape
        self.other_ids: set[str] = set()
        self._storage, self._embedding_id = parts, embedding_id
        self._parts: list[Part] = []
        self._replaced: list[Part] = []
        self._parts_of_others: list[Part] = []
        self._lengths: list[int] = []
        self._digests: list[pa.Array] = []
        self._images: dict[str, list[pa.Table]] = {folder: [] for folder in folders}
        columns = ["content"] if replace_existing else IMAGES_SCHEMA.names
        for part in parts.find():
            rows = parts.read(part, lambda file: read_rows(file, [*columns, "doubt"]))
            if isinstance(rows, Deletion):
                _logger.warning(
                    "a deletion that was begun on %s is not complete: run jobs/forget.py again",
                    rows.begun,
                )
                continue
            if rows.model != embedding_id:
                self._parts_of_others.append(part)
                self.other_ids.add(rows.model)
            elif replace_existing:
                self._replaced.append(part)
            else:
                self._add_part(part, embedded_digests(rows))
            if not replace_existing:
                self._add_images(rows.table)
        # In one piece, so that the memory of the images beside it can be given back.
        self._digests = [pa.concat_arrays([NO_DIGESTS, *self._digests])]

    @property
    def is_temporary(self) -> bool:
        """Return whether no later run reads the store."""
        return self._storage.is_temporary

    def __len__(self) -> int:
        """Return the number of embeddings."""
        return sum(self._lengths)

    def sorted_digests(self) -> Digests:
        """Return the digests of all images that have an embedding, sorted."""
        return np.sort(np.array(self._all_digests().to_pylist(), dtype=f"S{DIGEST_BYTES}"))

    def find_rows(self, digests: pa.Array) -> Rows:
        """Return the row of each of N digests; -1 where it has no embedding."""
        found = pc.index_in(digests, value_set=self._all_digests())
        return np.asarray(pc.fill_null(found, -1).cast(pa.int64()))

    def images_in(self, folder: str) -> pa.Table:
        """Return the images of a folder that earlier runs have read, the latest first.

        Args:
            folder: a folder that the store was opened with.

        Returns:
            The columns `path`, `stamp`, `content` and `reason`.
        """
        empty = IMAGES_SCHEMA.empty_table().select(KNOWN_COLUMNS)
        return pa.concat_tables([empty, *reversed(self._images[folder])])

    def release_images(self) -> None:
        """Free the memory of what `images_in` returns."""
        self._images = {}

    def append(self, images: pa.Table, predictions: Predictions) -> None:
        """Write a part with images, and with predictions for the first of them.

        Args:
            images: N rows of `IMAGES_SCHEMA`.
            predictions: predictions for the first M images, which have a content.

        Raises:
            UserError: another run writes the store.
        """
        if not len(images):
            return
        rows = build_part(images, predictions, self.shape, self._embedding_id)
        part = self._storage.append(rows.to_parquet())
        self._add_part(part, images["content"][: len(predictions)].combine_chunks())

    def remove_replaced(self) -> None:
        """Delete what the store held of the model before it was opened with `replace_existing`.

        An image stays where another model has an embedding of the same content.
        """
        if not self._replaced:
            return
        others = [self._read(part, ["content", "doubt"]) for part in self._parts_of_others]
        kept = pa.concat_arrays([NO_DIGESTS, *(embedded_digests(rows) for rows in others)])
        for part in self._replaced:
            rows = self._read(part, IMAGES_SCHEMA.names)
            left = rows.where(pc.is_in(rows.table["content"].combine_chunks(), kept))
            self._storage.replace(part, left.to_parquet() if len(left.table) else b"")
        self._replaced = []

    def read_rows(self, rows: Rows) -> Iterator[tuple[Rows, Predictions]]:
        """Yield the predictions of some rows, one part of the store at a time.

        Args:
            rows: (N,) int64 in any order, with or without repetitions.

        Yields:
            (M,) int64 ascending positions in `rows`, and the predictions of these M rows.

        Raises:
            UserError: another run has changed the store.
        """
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        ends = np.cumsum(self._lengths)
        for part, start, end in zip(self._parts, ends - self._lengths, ends, strict=True):
            first, last = np.searchsorted(ordered, [start, end])
            positions = np.sort(order[first:last])
            if len(positions):
                predictions = self._storage.read(part, self._read_predictions)
                if len(predictions) != end - start:
                    raise self._storage.taken_over()
                yield positions, predictions.select(rows[positions] - start)

    def _read_predictions(self, file: pa.NativeFile) -> Predictions:
        rows = read_rows(file, EMBEDDED_COLUMNS)
        assert isinstance(rows, PartRows)
        return read_predictions(rows, self.shape)

    def _read(self, part: Part, columns: Sequence[str]) -> PartRows:
        rows = self._storage.read(part, lambda file: read_rows(file, columns))
        assert isinstance(rows, PartRows)
        return rows

    def _all_digests(self) -> pa.ChunkedArray:
        return pa.chunked_array(self._digests, DIGEST)

    def _add_part(self, part: Part, digests: pa.Array) -> None:
        self._parts.append(part)
        self._lengths.append(len(digests))
        self._digests.append(digests)

    def _add_images(self, table: pa.Table) -> None:
        stamped = pc.not_equal(table["stamp"], "")
        for folder, tables in self._images.items():
            chosen = pc.and_(stamped, pc.equal(table["folder"], folder))
            tables.append(table.select(KNOWN_COLUMNS).filter(chosen))


@dataclass(frozen=True)
class KnownFiles:
    """Hold the known digests and reasons of N files of a folder.

    Attributes:
        digests: N digests; null where the file is new or has changed.
        reasons: N reasons why a file does not decode; null where it does, or is not known.
    """

    digests: pa.Array
    reasons: pa.Array


def find_known_files(known: pa.Table, paths: pa.Array, stamps: pa.Array) -> KnownFiles:
    """Look up the files of a folder in a store by their paths and stamps.

    Args:
        known: images that `EmbeddingStore.images_in` returned.
        paths: N paths relative to the folder.
        stamps: N stamps of `Location.read_stamps`; a file with an empty stamp is not known.
    """
    positions = pc.index_in(paths, value_set=known["path"])  # the first, which is the latest
    same = pc.fill_null(pc.equal(known["stamp"].take(positions), stamps), False)
    digests, reasons = (
        pc.if_else(same, known[name].take(positions), pa.scalar(None, known[name].type))
        for name in ("content", "reason")
    )
    return KnownFiles(digests.combine_chunks(), reasons.combine_chunks())
