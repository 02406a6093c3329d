"""The contents of a part of a store: images that were seen, with their embeddings under a model.

A part is one Parquet file. Its rows are the images that were seen together: where each lies, its
content, and why it is no picture where it is none. A row has an embedding where its content was
embedded then; so no embedding exists without a name. The file's metadata name the model and the
day. A part may also be a deletion, which lists the contents that are to be forgotten.
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

from reidray.inference.digests import HASH_BYTES
from reidray.inference.predictions import Predictions, PredictionShape

CONTENT = pa.binary(HASH_BYTES)
NO_CONTENTS = pa.array([], CONTENT)
IMAGE_FIELDS = {
    "folder": pa.string(),
    "path": pa.string(),
    "stamp": pa.string(),
    "content": CONTENT,
    "reason": pa.string(),
}
IMAGES_SCHEMA = pa.schema(IMAGE_FIELDS)
EMBEDDED_COLUMNS = ("embedding", "codes", "doubt")
REPEATED_COLUMNS = ["folder", "reason"]
"""Columns of which many rows agree."""

METADATA_KEY = b"reidray"


@dataclass(frozen=True)
class PartRows:
    """Rows of a part, of all or some of its columns.

    Attributes:
        table: N rows of the columns of `IMAGES_SCHEMA`, and where something was embedded those of
            `EMBEDDED_COLUMNS`, which are null in the rows without an embedding.
        model: names the model; empty where nothing was embedded.
        day: the day that the part was written (UTC), as 2026-11-21.
    """

    table: pa.Table
    model: str
    day: str

    @property
    def embedded(self) -> pa.BooleanArray:
        """(N,) whether each row has an embedding."""
        if "doubt" not in self.table.column_names:
            return pa.repeat(False, len(self.table))
        return self.table["doubt"].combine_chunks().is_valid()

    def where(self, chosen: pa.BooleanArray) -> "PartRows":
        """Some of the rows."""
        return replace(self, table=self.table.filter(chosen))

    def without_embeddings(self) -> "PartRows":
        """The same images, with no embeddings."""
        return replace(self, table=self.table.select(IMAGES_SCHEMA.names))

    def to_parquet(self) -> bytes:
        """The file of these rows."""
        return _to_parquet(self.table, {"model": self.model, "day": self.day})


@dataclass(frozen=True)
class Deletion:
    """Record what is to be forgotten until it is gone everywhere.

    Attributes:
        kind: image, person or before.
        before: embeddings of parts of earlier days go; empty where no day was meant.
        images: how many files are forgotten.
        embeddings: how many embeddings.
        files: how many parts held them.
        begun: when it was begun.
        contents: all rows of these contents go, (N,) digests.
    """

    kind: str
    before: str
    images: int
    embeddings: int
    files: int
    begun: str
    contents: pa.Array

    def images_going(self, rows: PartRows) -> pa.BooleanArray:
        """(N,) which rows go as a whole."""
        return pc.is_in(rows.table["content"].combine_chunks(), self.contents)

    def embeddings_going(self, rows: PartRows) -> pa.BooleanArray:
        """(N,) which rows lose an embedding."""
        going = pa.repeat(True, len(rows.table)) if self._is_old(rows) else self.images_going(rows)
        return pc.and_(going, rows.embedded)

    def concerns(self, rows: PartRows) -> bool:
        """Tell whether a part holds something that is to be forgotten."""
        going = pc.or_(self.images_going(rows), self.embeddings_going(rows))
        return bool(pc.any(going).as_py())

    def applied_to(self, rows: PartRows) -> PartRows:
        """Return what stays of a part."""
        left = rows.where(pc.invert(self.images_going(rows)))
        return left.without_embeddings() if self._is_old(rows) else left

    def to_parquet(self) -> bytes:
        """The file of this part."""
        described = {name: value for name, value in vars(self).items() if name != "contents"}
        return _to_parquet(pa.table({"content": self.contents}), {"forgets": described})

    def _is_old(self, rows: PartRows) -> bool:
        return bool(self.before) and rows.day < self.before


def read_rows(file: pa.NativeFile, columns: Sequence[str] | None = None) -> PartRows | Deletion:
    """Read a part.

    Args:
        file: it.
        columns: those to read, of which a part may lack some; all by default.

    Raises:
        KeyError: the file is no part of a store.
        pa.ArrowException: the file is damaged.
    """
    opened = pq.ParquetFile(file)
    described = json.loads((opened.schema_arrow.metadata or {})[METADATA_KEY])
    if "forgets" in described:
        contents = opened.read(use_threads=False)["content"].cast(CONTENT)
        return Deletion(**described["forgets"], contents=contents.combine_chunks())
    there = opened.schema_arrow.names
    if missing := sorted(IMAGE_FIELDS.keys() - set(there)):
        raise KeyError(f"it has no column {missing[0]!r}")
    wanted = there if columns is None else [name for name in columns if name in there]
    table = opened.read(columns=wanted, use_threads=False).select(wanted)
    fields = [
        pa.field(name, IMAGE_FIELDS.get(name, table.schema.field(name).type)) for name in wanted
    ]
    return PartRows(table.cast(pa.schema(fields)), described["model"], described["day"])


def new_part(
    images: pa.Table, predictions: Predictions, shape: PredictionShape, model: str
) -> PartRows:
    """The rows of a part that is written today.

    Args:
        images: N rows of `IMAGES_SCHEMA`.
        predictions: what a model says of the first M of them.
        shape: of what it says.
        model: names it.
    """
    embedded = len(predictions)
    codes = predictions.attribute_labels.astype(np.int8).ravel()
    offsets = shape.attributes * np.arange(embedded + 1, dtype=np.int32)
    values = np.ascontiguousarray(predictions.embeddings).ravel()
    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values), shape.embedding_size),
        "codes": pa.ListArray.from_arrays(offsets, pa.array(codes)),
        "doubt": pa.array(predictions.uncertainty),
    }
    table = images
    for name, column in columns.items():
        nulls = pa.nulls(len(images) - embedded, column.type)
        table = table.append_column(name, pa.chunked_array([column, nulls]))
    return PartRows(table, model, f"{datetime.now(UTC):%Y-%m-%d}")


def read_predictions(rows: PartRows, shape: PredictionShape) -> Predictions:
    """Return what a model says of the rows that have an embedding.

    Raises:
        pa.ArrowInvalid: the embeddings are not those of such a model.
    """
    table = rows.table.select(EMBEDDED_COLUMNS).filter(rows.embedded)
    codes = table["codes"].combine_chunks().flatten().to_numpy().astype(np.int64)
    embeddings = embeddings_of(table)
    if embeddings.shape[1:] != (shape.embedding_size,):
        raise pa.ArrowInvalid(f"embeddings of {embeddings.shape[1]} numbers")
    return Predictions(
        embeddings, codes.reshape(len(table), shape.attributes), table["doubt"].to_numpy()
    )


def embeddings_of(table: pa.Table) -> NDArray[np.float32]:
    """(N, D) float32, those of rows that all have one."""
    from reidray.retrieval.arrow_features import to_matrix  # imports PyTorch

    column = table["embedding"]
    matrix = to_matrix(column.combine_chunks(), column.type.list_size)
    return matrix.astype(np.float32, copy=False)


def _to_parquet(table: pa.Table, described: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    metadata = {METADATA_KEY: json.dumps(described)}
    common = [name for name in REPEATED_COLUMNS if name in table.column_names]
    pq.write_table(table.replace_schema_metadata(metadata), file, use_dictionary=common or False)
    return file.getvalue()
