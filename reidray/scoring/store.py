"""Embeddings kept from night to night: what a file holds, and what a model makes of it.

A store has two tables. `images` says which file held which content, by its SHA-256, and why it is
no picture where it is none. `embeddings/model=ID` has the embedding and the attribute codes of each
content under a model. Both only grow, in Parquet files that appear whole, so that a run that is
killed leaves a store that the next one goes on with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.data.storage import Location
from reidray.retrieval.arrow_features import as_matrix
from reidray.scoring.digests import HASH_BYTES
from reidray.scoring.parted_table import PartedTable, found_table
from reidray.scoring.predictions import Predictions, Shape

Rows = NDArray[np.int64]

IMAGES_FOLDER, EMBEDDINGS_FOLDER = "images", "embeddings"
PLAIN = ("content", "embedding", "codes", "doubt")
"""Columns of embeddings of which hardly any two rows agree."""

IMAGES_SCHEMA = pa.schema(
    {
        "folder": pa.string(),
        "path": pa.string(),
        "stamp": pa.string(),
        "content": pa.binary(HASH_BYTES),
        "reason": pa.string(),
    }
)


def embeddings_schema(shape: Shape) -> pa.Schema:
    """Columns of what a model says of contents."""
    return pa.schema(
        {
            "content": pa.binary(HASH_BYTES),
            "embedding": pa.list_(pa.float32(), shape.embedding_size),
            "codes": pa.list_(pa.int8()),
            "doubt": pa.float32(),
        }
    )


def images_table(location: Location) -> PartedTable:
    """Which file held which content, in a store."""
    return PartedTable(location, IMAGES_FOLDER, IMAGES_SCHEMA, ("path", "stamp", "content"))


def embeddings_tables(location: Location) -> list[PartedTable]:
    """The embeddings of each model in a store."""
    if not location.join(EMBEDDINGS_FOLDER).is_folder():
        return []
    folders = location.join(EMBEDDINGS_FOLDER).list_children()
    found = (
        found_table(location, f"{EMBEDDINGS_FOLDER}/{name.rstrip('/')}", PLAIN) for name in folders
    )
    return [table for table in found if table is not None]


def embeddings_of(rows: pa.Table) -> NDArray[np.float32]:
    """(N, D) float32, those of some rows."""
    column = rows["embedding"]
    matrix = as_matrix(column.combine_chunks(), column.type.list_size)
    return matrix.astype(np.float32, copy=False)


class EmbeddingStore:
    """The embeddings of one model in a store, those that are there and those that come.

    A content has a row, counted from 0 over all parts in their order.

    Attributes:
        shape: what the model says of one image.
    """

    def __init__(
        self, location: Location, model_id: str, shape: Shape, *, anew: bool = False
    ) -> None:
        """Open a store, which may be empty.

        Args:
            location: of the store.
            model_id: names the model.
            shape: what it says of one image.
            anew: begin without what is there, which `forget_earlier` then removes.
        """
        self.shape = shape
        self._location = location
        folder = f"{EMBEDDINGS_FOLDER}/model={model_id}"
        self._table = PartedTable(location, folder, embeddings_schema(shape), PLAIN)
        there = self._table.parts()
        self._earlier, self._parts = (there, []) if anew else ([], there)
        known = [self._table.read(part, ["content"])["content"] for part in self._parts]
        self._lengths = [len(part) for part in known]
        self._contents = [chunk for part in known for chunk in part.chunks]

    @property
    def contents(self) -> pa.ChunkedArray:
        """The content of each row, 32 bytes each."""
        return pa.chunked_array(self._contents, pa.binary(HASH_BYTES))

    def rows_of(self, contents: pa.Array) -> Rows:
        """(N,) the row of each content; -1 where it has none."""
        found = pc.index_in(contents, value_set=self.contents)
        return np.asarray(pc.fill_null(found, -1).cast(pa.int64()))

    def append(self, contents: Sequence[bytes], predictions: Predictions) -> None:
        """Keep what the model says of some contents, N SHA-256 digests, for good."""
        if not contents:
            return
        digests = pa.array(contents, pa.binary(HASH_BYTES))
        embeddings = pa.array(np.ascontiguousarray(predictions.embeddings).ravel())
        codes = pa.array(predictions.codes.astype(np.int8).ravel())
        offsets = self.shape.attributes * np.arange(len(contents) + 1, dtype=np.int32)
        columns = [
            digests,
            pa.FixedSizeListArray.from_arrays(embeddings, self.shape.embedding_size),
            pa.ListArray.from_arrays(offsets, codes),
            pa.array(predictions.doubt),
        ]
        rows = pa.Table.from_arrays(columns, schema=self._table.schema)
        self._parts.append(self._table.append(rows))
        self._lengths.append(len(contents))
        self._contents.append(digests)

    def forget_earlier(self) -> None:
        """Remove what was there before a store that was opened anew."""
        for part in self._earlier:
            self._location.delete_file(part)
        self._earlier = []

    def gather(self, rows: Rows) -> Iterator[tuple[Rows, Predictions]]:
        """What is kept in some rows, a part of the store at a time.

        Args:
            rows: (N,) in any order; one may be there more than once.

        Yields:
            Places in `rows`, ascending, (M,), and what is kept of these.
        """
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        ends = np.cumsum(self._lengths)
        for part, start, end in zip(self._parts, ends - self._lengths, ends, strict=True):
            first, last = np.searchsorted(ordered, [start, end])
            places = np.sort(order[first:last])
            if len(places):
                yield places, self._read(part).take(rows[places] - start)

    def _read(self, part: str) -> Predictions:
        table = self._table.read(part, ["embedding", "codes", "doubt"])
        codes = table["codes"].combine_chunks().flatten().to_numpy().astype(np.int64)
        return Predictions(
            embeddings_of(table),
            codes.reshape(len(table), self.shape.attributes),
            table["doubt"].to_numpy(),
        )


@dataclass(frozen=True)
class KnownImages:
    """What is known of the files of a folder, by their names and stamps.

    Attributes:
        contents: N digests of 32 bytes, null where a file is new or has changed.
        reasons: why it is no picture, null where it is one or not known.
    """

    contents: pa.Array
    reasons: pa.Array


def read_images(table: PartedTable, folders: Sequence[str]) -> dict[str, pa.Table]:
    """Which file of some folders held which content, by all that a store has seen.

    Returns:
        For each folder `path`, `stamp`, `content` and `reason`, the latest first.
    """
    columns = table.schema.remove(table.schema.get_field_index("folder"))
    found = {folder: [columns.empty_table()] for folder in folders}
    for part in reversed(table.parts()):
        rows = table.read(part)
        rows = rows.filter(pc.not_equal(rows["stamp"], ""))
        for folder, parts in found.items():
            parts.append(rows.filter(pc.equal(rows["folder"], folder)).select(columns.names))
    return {folder: pa.concat_tables(parts) for folder, parts in found.items()}


def find_images(seen: pa.Table, paths: pa.Array, stamps: pa.Array) -> KnownImages:
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
