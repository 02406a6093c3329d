"""Read and write the Parquet file of one part of a store.

The rows of a part are images that one run has read: their folder and path, the digest of their
content, and why an image does not decode. A row has an embedding where that run embedded its
content, so that no embedding exists without a path. The metadata of the file hold the id of the
model and the day. A part may also be a deletion, which lists the digests to delete, a commit,
which lists files that several workers have written, or a ranking that is kept for the next run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reidray.inference.distributed.prediction_rows import unpack_bytes
from reidray.inference.image_batches import DIGEST_BYTES
from reidray.scoring.store.described_tables import open_parquet, read_description, to_parquet
from reidray.scoring.store.kept_ranking import KeptRanking

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

    @property
    def summary(self) -> "PartSummary":
        """Return the summary that `read_summary` reads from the file of these rows."""
        bounds = pc.min_max(self.table["path"])
        return PartSummary(
            self.model,
            self.day,
            len(self.table),
            pc.sum(self.embedded).as_py() or 0,
            bounds["min"].as_py() or "",
            bounds["max"].as_py() or "",
        )

    def to_parquet(self) -> bytes:
        """Return the bytes of a Parquet file of these rows."""
        return to_parquet(self.table, {"model": self.model, "day": self.day})


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
        rankings: number of kept rankings that were removed.
    """

    kind: str
    before: str
    images: int
    embeddings: int
    files: int
    begun: str
    contents: pa.Array
    rankings: int = 0

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
        return to_parquet(pa.table({"content": self.contents}), {"forgets": described})

    def _is_old(self, rows: PartRows) -> bool:
        return bool(self.before) and rows.day < self.before


@dataclass(frozen=True)
class CommittedFiles:
    """Hold the files that one step adds to a store.

    Attributes:
        names: paths relative to the store. The files hold rows, as a part does.
    """

    names: tuple[str, ...]

    def to_parquet(self) -> bytes:
        """Return the bytes of the part that lists the files."""
        return to_parquet(pa.table({"file": pa.array(self.names, pa.string())}), {"commits": True})


@dataclass(frozen=True)
class PartSummary:
    """Describe the rows of a part without reading them.

    Attributes:
        model: id of the model; empty where the part has no embedding.
        day: the day in UTC when the part was written, as 2026-11-21.
        num_rows: number of rows.
        num_embedded: number of rows with an embedding.
        first_path: the least path of the rows; empty where it is not known.
        last_path: the greatest path of the rows; None where it is not known.
    """

    model: str
    day: str
    num_rows: int
    num_embedded: int
    first_path: str
    last_path: str | None

    def may_hold(self, first: str, last: str) -> bool:
        """Return whether a row may have a path between two paths, both included."""
        return self.first_path <= last and (self.last_path is None or first <= self.last_path)


def read_summary(file: pa.NativeFile) -> PartSummary | Deletion | CommittedFiles | KeptRanking:
    """Read what a part holds: the summary of its rows, a deletion, a commit or a ranking.

    Args:
        file: the Parquet file.

    Raises:
        KeyError: the file is no part of a store.
        pa.ArrowException: the file is damaged.
    """
    opened = open_parquet(file)
    described = read_description(opened)
    if "commits" in described:
        names = opened.read(use_threads=False)["file"].to_pylist()
        return CommittedFiles(tuple(names))
    if "ranks" in described:
        return KeptRanking.from_parquet(opened, described)
    if "forgets" in described:
        return _read_deletion(opened, described)
    _check_columns(opened)
    groups = [opened.metadata.row_group(index) for index in range(opened.num_row_groups)]
    first, last = path_bounds(opened)
    return PartSummary(
        described["model"],
        described["day"],
        opened.metadata.num_rows,
        sum(map(_count_embedded, groups)),
        min(first, default=""),
        None if None in last else max(last, default=""),
    )


def path_bounds(opened: pq.ParquetFile) -> tuple[list[str], list[Any]]:
    """Return the least and the greatest path of each row group; "" and None where not known."""
    metadata, first, last = opened.metadata, [], []
    place = opened.schema_arrow.get_field_index("path")
    for index in range(metadata.num_row_groups):
        statistics = metadata.row_group(index).column(place).statistics
        known = statistics is not None and statistics.has_min_max
        first.append(statistics.min if known else "")
        last.append(statistics.max if known else None)
    return first, last


def read_rows(file: pa.NativeFile, columns: Sequence[str] | None = None) -> PartRows | Deletion:
    """Read a part.

    Args:
        file: the Parquet file.
        columns: columns to read; a part may lack some. All by default.

    Raises:
        KeyError: the file is no part of a store.
        pa.ArrowException: the file is damaged.
    """
    opened = open_parquet(file)
    described = read_description(opened)
    if "forgets" in described:
        return _read_deletion(opened, described)
    _check_columns(opened)
    present = opened.schema_arrow.names
    selected = present if columns is None else [name for name in columns if name in present]
    table = opened.read(columns=selected, use_threads=False).select(selected)
    fields = [
        pa.field(name, IMAGE_FIELDS.get(name, table.schema.field(name).type)) for name in selected
    ]
    return PartRows(table.cast(pa.schema(fields)), described["model"], described["day"])


def rows_of_today(table: pa.Table, model: str) -> PartRows:
    """Return the rows of a part that is written today.

    Args:
        table: N rows of `IMAGES_SCHEMA` and `EMBEDDED_COLUMNS`, null where there is no prediction.
        model: id of the model.
    """
    columns = [*IMAGES_SCHEMA.names, *EMBEDDED_COLUMNS]
    return PartRows(table.select(columns), model, f"{datetime.now(UTC):%Y-%m-%d}")


def read_embeddings(table: pa.Table) -> NDArray[np.float32]:
    """Return (N, D) float32 embeddings of rows that all have one.

    Stores of earlier versions hold lists in place of bytes.
    """
    column = table["embedding"]
    if pa.types.is_fixed_size_binary(column.type):
        return unpack_bytes(column.combine_chunks()).view("<f4")
    from reidray.retrieval.arrow_features import to_matrix  # imports PyTorch

    matrix = to_matrix(column.combine_chunks(), column.type.list_size)
    return matrix.astype(np.float32, copy=False)


def embedded_digests(rows: PartRows) -> pa.Array:
    """Return the digests of the rows that have an embedding."""
    return rows.table["content"].filter(rows.embedded).combine_chunks()


def _read_deletion(opened: pq.ParquetFile, described: dict[str, Any]) -> Deletion:
    digests = opened.read(use_threads=False)["content"].cast(DIGEST)
    return Deletion(**described["forgets"], contents=digests.combine_chunks())


def _check_columns(opened: pq.ParquetFile) -> None:
    """Check that a file has the columns of an image.

    Raises:
        KeyError: it lacks one.
    """
    if missing := sorted(IMAGE_FIELDS.keys() - set(opened.schema_arrow.names)):
        raise KeyError(f"it has no column {missing[0]!r}")


def _count_embedded(group: pq.RowGroupMetaData) -> int:
    """Return the number of rows of a row group with an embedding, at most."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == "doubt":
            statistics = column.statistics
            return int(group.num_rows - (statistics.null_count if statistics else 0))
    return 0
