"""Find images in the parts of a store, and read their predictions, in any process.

Only the parts and the row groups that may hold an image are read, as the file of a part says which
paths it holds. So the work of a range of paths does not grow with the store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.inference.distributed.prediction_rows import unpack_bytes
from reidray.inference.image_batches import DIGEST_KEY_BYTES, Digests
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.scoring.store.described_tables import open_parquet, read_columns
from reidray.scoring.store.part_file import (
    DIGEST,
    IMAGE_FIELDS,
    PartSummary,
    path_bounds,
    read_embeddings,
)
from reidray.scoring.store.part_storage import Part, PartStorage

KNOWN_COLUMNS = ("folder", "path", "stamp", "content", "reason", "doubt")
FOUND_SCHEMA = pa.schema(
    {
        "path": pa.large_string(),
        "stamp": pa.string(),
        "content": DIGEST,
        "reason": pa.string(),
        "part": pa.int32(),
        "row": pa.int32(),
        "embedded": pa.bool_(),
    }
)
"""Columns of the rows of parts: `part` is an index in `StoreContents.parts`."""

PREDICTION_COLUMNS = ("embedding", "codes", "doubt")


@dataclass(frozen=True)
class StoreContents:
    """Hold what a process needs to read the embeddings of a model.

    Attributes:
        storage: the parts.
        embedding_id: id of the embeddings.
        shape: sizes of the predictions.
        parts: the parts, each with its summary, in the order of writing.
        num_earlier: number of the parts that earlier runs have written, which come first.
    """

    storage: PartStorage
    embedding_id: str
    shape: PredictionShape
    parts: tuple[Part, ...]
    num_earlier: int

    @property
    def num_embedded(self) -> int:
        """Return the number of embeddings of the model."""
        return sum(summary_of(self.parts[part]).num_embedded for part in self.embedded_parts())

    def embedded_parts(self) -> list[int]:
        """Return the indices of the parts with embeddings of the model."""
        return [
            index
            for index, part in enumerate(self.parts)
            if summary_of(part).model == self.embedding_id and summary_of(part).num_embedded
        ]


@dataclass(frozen=True, eq=False)
class KnownImages:
    """Hold what a store knows of N images of a folder.

    Attributes:
        digests: N digests of their files; null where the file is new, has changed or is bad.
        reasons: N reasons why a file does not decode; null where it does, or is not known.
        parts: (N,) int32, the part with the embedding of the image; -1 where its row has none.
        rows: (N,) int32, the row of the embedding in its part; -1 where there is none.
    """

    digests: pa.Array
    reasons: pa.Array
    parts: NDArray[np.int32]
    rows: NDArray[np.int32]


def summary_of(part: Part) -> PartSummary:
    """Return the summary of a part with rows."""
    assert part.summary is not None
    return part.summary


def find_images(
    contents: StoreContents,
    folder: str,
    paths: pa.ChunkedArray,
    stamps: pa.ChunkedArray,
    first_part: int = 0,
) -> KnownImages:
    """Look up the images of a folder by path and stamp.

    The same path with the same stamp is the same file. What this run has read is known by its path.

    Args:
        contents: the store.
        folder: the folder of the images.
        paths: N paths relative to the folder, sorted, N > 0.
        stamps: N stamps of `Location.read_stamps`; empty where the file may have changed.
        first_part: index of the first part to look in.
    """
    known = _read_known(contents, folder, paths[0].as_py(), paths[-1].as_py(), first_part)
    order = pc.sort_indices(known, [("embedded", "descending"), ("part", "descending")])
    known = known.take(order)
    is_new = pc.greater_equal(known["part"], contents.num_earlier)
    fresh, earlier = known.filter(is_new), known.filter(pc.invert(is_new))
    earlier = earlier.filter(pc.not_equal(earlier["stamp"], ""))
    by_path = pc.index_in(paths, value_set=fresh["path"])
    by_stamp = pc.index_in(_join(paths, stamps), value_set=_join(earlier["path"], earlier["stamp"]))
    places = pc.coalesce(by_path, pc.add(by_stamp, len(fresh)))
    found = pa.concat_tables([fresh, earlier]).take(places)
    has_row = np.asarray(pc.fill_null(found["embedded"], False))
    return KnownImages(
        _one_array(found["content"]),
        _one_array(found["reason"]),
        *(
            np.where(has_row, np.asarray(pc.fill_null(found[name], -1)), -1).astype(np.int32)
            for name in ("part", "row")
        ),
    )


def embedded_keys(contents: StoreContents, parts: Sequence[int]) -> Digests:
    """Return the keys of the digests of some parts that have an embedding, sorted.

    Args:
        contents: the store.
        parts: indices of parts.
    """
    arrays = [rows["content"] for rows in _embedded_rows(contents, parts)]
    digests = pa.chunked_array(arrays, DIGEST) if arrays else pa.chunked_array([], DIGEST)
    return np.sort(digest_keys(_one_array(digests)))


def digest_keys(digests: pa.FixedSizeBinaryArray) -> Digests:
    """Return the keys of digests, none of them null: their first `DIGEST_KEY_BYTES` bytes."""
    beginnings = unpack_bytes(digests)[:, :DIGEST_KEY_BYTES]
    return np.ascontiguousarray(beginnings).view(f"S{DIGEST_KEY_BYTES}")[:, 0]


def find_digests(contents: StoreContents, parts: Sequence[int], digests: pa.Array) -> pa.Table:
    """Return the rows of some parts that hold the embedding of one of some digests.

    Args:
        contents: the store.
        parts: indices of parts.
        digests: the digests.

    Returns:
        A table of `content`, `part` and `row`, at most one row for each digest and part.
    """
    schema = pa.schema([FOUND_SCHEMA.field(name) for name in ("content", "part", "row")])
    tables = [schema.empty_table()]
    for rows in _embedded_rows(contents, parts):
        chosen = rows.filter(pc.is_in(rows["content"], value_set=digests))
        tables.append(chosen.select(schema.names))
    return pa.concat_tables(tables).combine_chunks()


def read_predictions_at(
    contents: StoreContents,
    parts: NDArray[np.int32],
    rows: NDArray[np.int32],
    columns: Sequence[str] = PREDICTION_COLUMNS,
) -> Predictions:
    """Return the predictions of N rows of the store.

    Args:
        contents: the store.
        parts: (N,) int32, the part of each row.
        rows: (N,) int32, the row in its part.
        columns: the columns to read; the predictions of others are not initialised.

    Raises:
        UserError: another run has changed the store.
    """
    predictions = contents.shape.empty(len(parts))
    order = np.argsort(parts, kind="stable")
    numbers, starts = np.unique(parts[order], return_index=True)
    for number, (start, end) in zip(numbers, pairwise([*starts, len(parts)]), strict=True):
        part, places = contents.parts[number], order[start:end]
        wanted = rows[places]
        table = contents.storage.read(part, partial(_take_rows, rows=wanted, columns=columns))
        if table is None:
            raise contents.storage.taken_over()
        if "embedding" in columns:
            embeddings = read_embeddings(table)
            if embeddings.shape[1] != contents.shape.embedding_size:
                raise contents.storage.taken_over()
            predictions.embeddings[places] = embeddings
        if "codes" in columns:
            codes = table["codes"].combine_chunks().flatten().to_numpy()
            predictions.attribute_labels[places] = codes.reshape(
                len(table), contents.shape.num_attributes
            )
        if "doubt" in columns:
            predictions.uncertainty[places] = table["doubt"].to_numpy()
    return predictions


def _take_rows(
    file: pa.NativeFile, rows: NDArray[np.int32], columns: Sequence[str]
) -> pa.Table | None:
    """Return some rows of a part, in their order; None where it has too few rows."""
    opened = open_parquet(file)
    metadata = opened.metadata
    lengths = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    ends = np.cumsum(lengths, dtype=np.int64)
    if not len(ends) or rows.max() >= ends[-1]:
        return None
    groups, position = np.unique(np.searchsorted(ends, rows, side="right"), return_inverse=True)
    first_rows = (ends - lengths)[groups]
    starts = np.cumsum([0, *np.asarray(lengths)[groups][:-1]])
    places = starts[position] + rows - first_rows[position]
    table = opened.read_row_groups(groups.tolist(), columns=list(columns), use_threads=False)
    table = table.select(list(columns))
    if len(table) == len(places) and (places == np.arange(len(places))).all():
        return table
    return table.take(places)


def _read_known(
    contents: StoreContents, folder: str, first: str, last: str, first_part: int
) -> pa.Table:
    """Return the rows of parts with a path of a folder between two paths, both included."""
    tables = [FOUND_SCHEMA.empty_table()]
    for index, part in enumerate(contents.parts[first_part:], first_part):
        summary = summary_of(part)
        if summary.may_hold(first, last):
            is_own = summary.model == contents.embedding_id
            read = partial(_read_range, folder=folder, first=first, last=last)
            table = contents.storage.read(part, read)
            embedded = table["embedded"] if is_own else pa.repeat(False, len(table))
            place = table.schema.get_field_index("embedded")
            table = table.set_column(place, "embedded", embedded)
            table = table.append_column("part", pa.repeat(pa.scalar(index, pa.int32()), len(table)))
            tables.append(table.select(FOUND_SCHEMA.names).cast(FOUND_SCHEMA))
    return pa.concat_tables(tables)


def _read_range(file: pa.NativeFile, folder: str, first: str, last: str) -> pa.Table:
    """Return the rows of a part with a path of a folder between two paths, both included."""
    opened = open_parquet(file)
    starts = np.cumsum(
        [0, *(opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups))]
    )
    groups = [
        group
        for group, (least, most) in enumerate(zip(*path_bounds(opened), strict=True))
        if least <= last and (most is None or first <= most)
    ]
    rows = np.concatenate([np.arange(0), *(np.arange(starts[g], starts[g + 1]) for g in groups)])
    columns = [name for name in KNOWN_COLUMNS if name in opened.schema_arrow.names]
    table = opened.read_row_groups(groups, columns=columns, use_threads=False)
    embedded = pa.repeat(False, len(table))
    if "doubt" in columns:
        embedded = table["doubt"].is_valid()
        table = table.drop_columns("doubt")
    # Stores of earlier versions may have other types of strings.
    fields = [pa.field(name, IMAGE_FIELDS[name]) for name in table.column_names]
    table = table.cast(pa.schema(fields))
    table = table.append_column("embedded", embedded)
    table = table.append_column("row", pa.array(rows, pa.int32()))
    inside = pc.and_(pc.greater_equal(table["path"], first), pc.less_equal(table["path"], last))
    return table.filter(pc.and_(inside, pc.equal(table["folder"], folder)))


def _embedded_rows(contents: StoreContents, parts: Sequence[int]) -> Iterator[pa.Table]:
    """Yield `content`, `part` and `row` of the rows of some parts with an embedding."""
    for index in parts:

        def read(file: pa.NativeFile) -> pa.Table:
            return read_columns(open_parquet(file), ["content", "doubt"])

        table = contents.storage.read(contents.parts[index], read)
        rows = pa.table(
            {
                "content": _one_array(table["content"].cast(DIGEST)),
                "part": pa.repeat(pa.scalar(index, pa.int32()), len(table)),
                "row": pa.array(np.arange(len(table)), pa.int32()),
            }
        )
        yield rows.filter(table["doubt"].is_valid())


def _join(paths: pa.ChunkedArray, stamps: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return each path with its stamp, as one text; null where the stamp is empty."""
    stamps = pc.if_else(pc.equal(stamps, ""), None, stamps)
    parts = [each.cast(pa.large_string()) for each in (paths, stamps)]
    return pc.binary_join_element_wise(*parts, pa.scalar("\0", pa.large_string()))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
    return combined
