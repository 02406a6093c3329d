"""Build a manifest of columns: check them, convert their types, and sort the rows by path."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.data.attribute_schema import UNKNOWN, AttributeSchema
from reidray.data.ids import NO_NAMES, describe_names
from reidray.data.manifest import NO_ATTRIBUTES, SPLITS, Manifest, encode_names
from reidray.data.stored_rows import keep_rows, reorder_rows, store_rows, store_texts
from reidray.errors import UserError
from reidray.storage.paths import key_leaves_root, path_leaves_root

_TYPES = {
    "path": pa.large_string(),
    "split": pa.string(),
    "person": pa.int64(),
    "camera": pa.int16(),
    "label": pa.int16(),
    "mask_path": pa.large_string(),
}
# Paths that are absolute, empty, or have empty, `.` or `..` parts.
_UNUSUAL_PATH = r"^$|^/|//|/$|(^|/)\.{1,2}(/|$)|\x00|^[A-Za-z]:|\\"


def build_manifest(
    root: str,
    columns: Mapping[str, object],
    *,
    layout: str,
    schema: AttributeSchema = NO_ATTRIBUTES,
    classes: tuple[str, ...] = (),
    notes: Iterable[str] = (),
    person_ids: Mapping[str, int] = NO_NAMES,
    camera_ids: Mapping[str, int] = NO_NAMES,
) -> Manifest:
    """Build a manifest of some columns: check them, convert their types and sort the rows by path.

    Args:
        root: the folder to which the paths are relative, a local path or `s3://` address.
        columns: one value per image by the name of the column, as a list or an Arrow array.
            `path` and `split` are required; `person`, `camera`, `label`, `mask_path` and an
            `attr_<name>` for each attribute of the schema are optional (see `Manifest`).
        layout: the name of the layout.
        schema: the attributes of the `attr_` columns.
        classes: the names of the labels.
        notes: findings for the notes of the manifest.
        person_ids: the numbers of people who have names.
        camera_ids: the numbers of cameras that have names.

    Raises:
        UserError: there are no images; a path occurs twice, is absolute or leaves the root; a split
            is unknown; a value lies outside its attribute; a person is in both train and val; a
            name is not UTF-8.
    """
    try:
        table = _typed_table(columns, schema)
    except pa.ArrowInvalid as error:
        raise UserError(f"{root}: a column does not hold what it should ({error})") from None
    except UnicodeEncodeError as error:
        raise UserError(f"{root}: the name {error.object!r} is not UTF-8; rename it") from None
    if not table.num_rows:
        raise UserError(f"{root}: no images found for the layout {layout}")
    for column in ("path", "mask_path"):
        if column in table.column_names:
            paths = _plain_paths(table[column], column, is_remote=root.startswith("s3://"))
            table = table.set_column(table.column_names.index(column), column, paths)
    _check_known_splits(table)
    table = table.set_column(1, "split", encode_names(table["split"], SPLITS))
    _check_codes(table, schema, classes)
    _check_train_against_val(table)
    table = _sort_by_path(table)
    notes = (*notes, *describe_names(person_ids, camera_ids), *_overlap_notes(table))
    return Manifest(root, table, layout, schema, classes, notes, person_ids, camera_ids)


def keep_existing(manifest: Manifest, files: Iterable[str], *, strict: bool) -> Manifest:
    """Return a manifest of the rows whose image exists; count the other rows in its notes.

    Args:
        manifest: the manifest.
        files: the paths of the files that exist.
        strict: whether a missing image is an error.

    Raises:
        UserError: no image exists; or one is missing, and `strict` is on.
    """
    # Compare bytes, as other files may have names that are not UTF-8.
    names = pa.array((file.encode(errors="surrogateescape") for file in files), pa.large_binary())
    exists = pc.is_in(manifest.table["path"].cast(pa.large_binary()), value_set=names)
    if pc.all(exists).as_py():
        return manifest
    table = keep_rows(manifest.table, exists)
    missing = manifest.table.num_rows - table.num_rows
    first = manifest.table.filter(pc.invert(exists))["path"][0].as_py()
    note = f"listed images that are not there: {missing} (the first is {first!r})"
    if strict or not table.num_rows:
        root = ", or name the folder where the paths begin by `root`"
        raise UserError(
            f"{manifest.root}: {note}; mend the list, or bring the images"
            f"{root if manifest.layout == 'manifest' else ''}"
        )
    return replace(manifest, table=table, notes=(*manifest.notes, note))


def _typed_table(columns: Mapping[str, object], schema: AttributeSchema) -> pa.Table:
    types = _TYPES | dict.fromkeys(schema.columns, pa.int8())
    unknown = [name for name in columns if name not in types]
    if unknown:
        raise ValueError(f"a manifest has no column {unknown[0]!r}")
    given = {name: _typed_column(values, types[name]) for name, values in columns.items()}
    rows = len(given["path"])
    arrays = {}
    for name in ("path", "split", "person", "camera", *schema.columns, "label", "mask_path"):
        if name in given:
            filled = name in schema.columns
            arrays[name] = pc.fill_null(given[name], UNKNOWN) if filled else given[name]
        elif name in ("person", "camera"):
            arrays[name] = pa.nulls(rows, types[name])
    return pa.table(arrays)


def _typed_column(values: object, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    return pa.array(values, kind)


def _plain_paths(paths: pa.ChunkedArray, column: str, *, is_remote: bool) -> pa.ChunkedArray:
    """Return the paths without `.` parts and doubled slashes; keep keys of an object store.

    Raises:
        UserError: a path leaves the root, or a row has no path.
    """
    unusual = pc.match_substring_regex(paths, _UNUSUAL_PATH)
    if column == "path" and paths.null_count:
        raise UserError(f"row {_first(pc.is_null(paths)) + 1} has no path; give every row one")
    rows = np.flatnonzero(pc.fill_null(unusual, False).to_numpy())
    plain = paths.filter(unusual).to_pylist()
    for place, (row, path) in enumerate(zip(rows.tolist(), plain, strict=True)):
        if key_leaves_root(path) if is_remote else path_leaves_root(path) or "\\" in path:
            raise UserError(
                f"row {row + 1}: {column} {path!r} is not a path within the root; "
                "expected one such as train/0002_c1_000451.jpg"
                f"{', with / in place of each backslash' if chr(92) in path else ''}"
            )
        plain[place] = path if is_remote else posixpath.normpath(path)
    return replace_rows(paths, rows, plain)


def replace_rows(
    texts: pa.ChunkedArray, rows: NDArray[np.int64], new: Sequence[str | None]
) -> pa.ChunkedArray:
    """Return texts with new ones in some rows.

    Args:
        texts: (N,) large strings.
        rows: (R,) rows to replace, ascending.
        new: R texts.
    """
    if not len(rows):
        return texts
    replacements = pa.array(new, pa.large_string())

    def replace_part(part: slice) -> pa.ChunkedArray:
        first, end = np.searchsorted(rows, (part.start, part.stop)).tolist()
        old = texts[part].combine_chunks()
        is_replaced = np.zeros(len(old), dtype=np.bool_)
        is_replaced[rows[first:end] - part.start] = True
        own = replacements[first:end]
        return pa.chunked_array([pc.replace_with_mask(old, pa.array(is_replaced), own)])

    return store_texts(replace_part, len(texts))


def _check_known_splits(table: pa.Table) -> None:
    known = pc.is_in(table["split"], value_set=pa.array(SPLITS))
    if not pc.all(known).as_py():
        row = _first(pc.invert(known))
        raise UserError(
            f"{_name(table, row)}: split is {table['split'][row].as_py()!r}, "
            f"expected one of {', '.join(SPLITS)}"
        )


def _sort_by_path(table: pa.Table) -> pa.Table:
    """Return a table sorted by path.

    Raises:
        UserError: a path occurs twice.
    """
    paths = table["path"]
    if pc.all(pc.less(paths[:-1], paths[1:])).as_py():
        return store_rows(table.to_batches(), table.schema)
    order = np.asarray(pc.sort_indices(paths)).astype(np.int64)  # stable
    ordered = reorder_rows(table, order)
    paths = ordered["path"]
    repeats = np.flatnonzero(pc.equal(paths[:-1], paths[1:]).to_numpy())
    if len(repeats):
        first, row = min(zip(order[repeats], order[repeats + 1], strict=True), key=lambda p: p[1])
        raise UserError(
            f"{_name(table, int(row))}: the path is in row {first + 1} already; keep one"
        )
    return ordered


def _check_codes(table: pa.Table, schema: AttributeSchema, classes: tuple[str, ...]) -> None:
    ranges = {
        name: (UNKNOWN, size - 1) for name, size in zip(schema.columns, schema.sizes, strict=True)
    }
    if "label" in table.column_names:
        ranges["label"] = (0, len(classes) - 1)
    for column, (least, most) in ranges.items():
        if column not in table.column_names:
            raise UserError(f"column {column!r} is missing, expected codes {least} to {most}")
        values = table[column]
        wrong = pc.or_(pc.less(values, least), pc.greater(values, most))
        if pc.any(wrong).as_py():
            row = _first(wrong)
            raise UserError(
                f"{_name(table, row)}: {column} is {values[row].as_py()}, "
                f"expected a code from {least} to {most}"
            )


def _check_train_against_val(table: pa.Table) -> None:
    both = np.intersect1d(_people(table, "train"), _people(table, "val"), assume_unique=True)
    if len(both):
        in_val = pc.equal(table["split"], "val")
        row = _first(pc.and_(pc.equal(table["person"], int(both[0])), in_val))
        raise UserError(
            f"{_name(table, row)}: person {both[0]} is in both train and val, and so are "
            f"{len(both) - 1} others; put each person into one of them"
        )


def _overlap_notes(table: pa.Table) -> tuple[str, ...]:
    tested = np.union1d(_people(table, "query"), _people(table, "gallery"))
    both = np.intersect1d(_people(table, "train"), tested, assume_unique=True)
    if not len(both):
        return ()
    return (
        f"people in train who are also in query or gallery: {len(both)} "
        f"(the first is person {both[0]}); the metrics will be too good",
    )


def _people(table: pa.Table, split: str) -> NDArray[np.int64]:
    chosen = pc.and_(pc.equal(table["split"], split), pc.greater(table["person"], 0))
    return np.asarray(table["person"].filter(chosen).unique().to_numpy())


def _first(mask: pa.ChunkedArray) -> int:
    row: int = pc.index(mask, True).as_py()
    return row


def _name(table: pa.Table, row: int) -> str:
    return f"row {row + 1} ({table['path'][row].as_py()!r})"
