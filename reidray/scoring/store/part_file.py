"""Read and write the Parquet file of one part of a store.

The rows of a part are images that one run has read: their folder and path, the digest of their
content, and why an image does not decode. A row has an embedding where that run embedded its
content, so that no embedding exists without a path. The metadata of the file hold the id of the
model and the day. A part may also be a deletion, which lists the digests to delete.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reidray.inference.image_batches import DIGEST_BYTES
from reidray.inference.predictions import Predictions, PredictionShape

DIGEST = pa.binary(DIGEST_BYTES)
NO_DIGESTS = pa.array([], DIGEST)
IMAGE_FIELDS = {
    "folder": pa.string(),
    "path": pa.string(),
    "stamp": pa.string(),
    "content": DIGEST,
    "reason": pa.string(),
}
IMAGES_SCHEMA = pa.schema(IMAGE_FIELDS)
EMBEDDED_COLUMNS = ("embedding", "codes", "doubt")
REPEATED_COLUMNS = ["folder", "reason"]
"""Columns with the same value in many rows."""

METADATA_KEY = b"reidray"


@dataclass(frozen=True)
class PartRows:
    """Hold rows of a part, with all or some of its columns.

    Attributes:
        table: N rows of the columns of `IMAGES_SCHEMA`, and, where the part has embeddings, of
            `EMBEDDED_COLUMNS`, which are null in the rows without an embedding.
        model: id of the model; empty where the part has no embedding.
        day: the day in UTC when the part was written, as 2026-11-21.
    """

    table: pa.Table
    model: str
    day: str

    @property
    def embedded(self) -> pa.BooleanArray:
        """Return (N,) whether each row has an embedding."""
        if "doubt" not in self.table.column_names:
            return pa.repeat(False, len(self.table))
        return self.table["doubt"].combine_chunks().is_valid()

    def where(self, chosen: pa.BooleanArray) -> "PartRows":
        """Return some of the rows."""
        return replace(self, table=self.table.filter(chosen))

    def without_embeddings(self) -> "PartRows":
        """Return the same images without embeddings."""
        return replace(self, table=self.table.select(IMAGES_SCHEMA.names))

    def to_parquet(self) -> bytes:
        """Return the bytes of a Parquet file of these rows."""
        return _to_parquet(self.table, {"model": self.model, "day": self.day})


@dataclass(frozen=True)
class Deletion:
    """Hold the digests of a deletion until they are deleted everywhere.

    Attributes:
        kind: `image`, `person` or `before`.
        before: the embeddings of parts of earlier days are deleted; empty for other kinds.
        images: number of image files.
        embeddings: number of embeddings.
        files: number of parts that held them.
        begun: time when the deletion began.
        contents: (N,) digests whose rows are deleted.
    """

    kind: str
    before: str
    images: int
    embeddings: int
    files: int
    begun: str
    contents: pa.Array

    def deletes_image(self, rows: PartRows) -> pa.BooleanArray:
        """Return (N,) whether each row is deleted as a whole."""
        return pc.is_in(rows.table["content"].combine_chunks(), self.contents)

    def deletes_embedding(self, rows: PartRows) -> pa.BooleanArray:
        """Return (N,) whether each row loses an embedding."""
        old = self._is_old(rows)
        deleted = pa.repeat(True, len(rows.table)) if old else self.deletes_image(rows)
        return pc.and_(deleted, rows.embedded)

    def affects(self, rows: PartRows) -> bool:
        """Return whether a part holds something that is deleted."""
        deleted = pc.or_(self.deletes_image(rows), self.deletes_embedding(rows))
        return bool(pc.any(deleted).as_py())

    def apply(self, rows: PartRows) -> PartRows:
        """Return the rows of a part that the deletion keeps."""
        left = rows.where(pc.invert(self.deletes_image(rows)))
        return left.without_embeddings() if self._is_old(rows) else left

    def to_parquet(self) -> bytes:
        """Return the bytes of the part that holds this deletion."""
        described = {name: value for name, value in vars(self).items() if name != "contents"}
        return _to_parquet(pa.table({"content": self.contents}), {"forgets": described})

    def _is_old(self, rows: PartRows) -> bool:
        return bool(self.before) and rows.day < self.before


def read_rows(file: pa.NativeFile, columns: Sequence[str] | None = None) -> PartRows | Deletion:
    """Read a part.

    Args:
        file: the Parquet file.
        columns: columns to read; a part may lack some. All by default.

    Raises:
        KeyError: the file is no part of a store.
        pa.ArrowException: the file is damaged.
    """
    opened = pq.ParquetFile(file)
    described = json.loads((opened.schema_arrow.metadata or {})[METADATA_KEY])
    if "forgets" in described:
        digests = opened.read(use_threads=False)["content"].cast(DIGEST)
        return Deletion(**described["forgets"], contents=digests.combine_chunks())
    present = opened.schema_arrow.names
    if missing := sorted(IMAGE_FIELDS.keys() - set(present)):
        raise KeyError(f"it has no column {missing[0]!r}")
    selected = present if columns is None else [name for name in columns if name in present]
    table = opened.read(columns=selected, use_threads=False).select(selected)
    fields = [
        pa.field(name, IMAGE_FIELDS.get(name, table.schema.field(name).type)) for name in selected
    ]
    return PartRows(table.cast(pa.schema(fields)), described["model"], described["day"])


def build_part(
    images: pa.Table, predictions: Predictions, shape: PredictionShape, model: str
) -> PartRows:
    """Return the rows of a part that is written today.

    Args:
        images: N rows of `IMAGES_SCHEMA`.
        predictions: predictions for the first M of them.
        shape: sizes of the predictions.
        model: id of the model.
    """
    embedded = len(predictions)
    labels = predictions.attribute_labels.astype(np.int8).ravel()
    offsets = shape.num_attributes * np.arange(embedded + 1, dtype=np.int32)
    values = np.ascontiguousarray(predictions.embeddings).ravel()
    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values), shape.embedding_size),
        "codes": pa.ListArray.from_arrays(offsets, pa.array(labels)),
        "doubt": pa.array(predictions.uncertainty),
    }
    table = images
    for name, column in columns.items():
        nulls = pa.nulls(len(images) - embedded, column.type)
        table = table.append_column(name, pa.chunked_array([column, nulls]))
    return PartRows(table, model, f"{datetime.now(UTC):%Y-%m-%d}")


def read_predictions(rows: PartRows, shape: PredictionShape) -> Predictions:
    """Return the predictions of the rows that have an embedding.

    Raises:
        pa.ArrowInvalid: the embeddings have another size.
    """
    table = rows.table.select(EMBEDDED_COLUMNS).filter(rows.embedded)
    labels = table["codes"].combine_chunks().flatten().to_numpy().astype(np.int64)
    embeddings = read_embeddings(table)
    if embeddings.shape[1:] != (shape.embedding_size,):
        raise pa.ArrowInvalid(f"embeddings of {embeddings.shape[1]} numbers")
    return Predictions(
        embeddings, labels.reshape(len(table), shape.num_attributes), table["doubt"].to_numpy()
    )


def read_embeddings(table: pa.Table) -> NDArray[np.float32]:
    """Return (N, D) float32 embeddings of rows that all have one."""
    from reidray.retrieval.arrow_features import to_matrix  # imports PyTorch

    column = table["embedding"]
    matrix = to_matrix(column.combine_chunks(), column.type.list_size)
    return matrix.astype(np.float32, copy=False)


def embedded_digests(rows: PartRows) -> pa.Array:
    """Return the digests of the rows that have an embedding."""
    return rows.table["content"].filter(rows.embedded).combine_chunks()


def _to_parquet(table: pa.Table, described: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    metadata = {METADATA_KEY: json.dumps(described)}
    repeated = [name for name in REPEATED_COLUMNS if name in table.column_names]
    pq.write_table(table.replace_schema_metadata(metadata), file, use_dictionary=repeated or False)
    return file.getvalue()
