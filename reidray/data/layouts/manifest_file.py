"""Read a manifest: a CSV or Parquet file, or a folder of Parquet files, with its columns."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, UNKNOWN, Attribute, AttributeSchema
from reidray.data.ids import (
    MAX_CAMERA_ID,
    MAX_PERSON_ID,
    NO_NAMES,
    nontrivial_names,
    number_camera_ids,
    number_person_ids,
)
from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.manifest_builder import build_manifest, keep_existing
from reidray.data.reading.columns import (
    missing_as_null,
    missing_note,
    read_ids,
    read_whole_numbers,
)
from reidray.data.reading.manifest_paths import find_listed, find_root, relative_paths
from reidray.data.reading.manifest_tables import (
    FILES,
    PATH_COLUMNS,
    find_manifest,
    find_shards,
    read_table,
)
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "manifest"
EXPECTED = "manifest.csv, manifest.parquet, or Parquet files alone, with the columns path and split"
SUFFIXES = (".csv", ".parquet")
BESIDE: frozenset[str] = frozenset()

_IDS: dict[str, Callable[[Iterable[str], str], dict[str, int]]] = {
    "person": number_person_ids,
    "camera": number_camera_ids,
}
_LAST_ID = {"person": MAX_PERSON_ID, "camera": MAX_CAMERA_ID}
_LAST_LABEL, _LAST_VALUE = 32_767, 127  # the manifest's int16 and int8


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    return any(file in names for file in FILES) or bool(find_shards(location, names))


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a manifest file, of a folder that holds one, or of its shards.

    Relative paths begin at `options.root`, at the `root` in the metadata of a Parquet file, or at
    the folder of the file. Absolute paths must lie below that root.

    The columns `path` and `split` are required; `person`, `camera`, `label`, `mask_path` and
    `attr_<name>` are optional. A person or camera is a number or a name (see `number_person_ids`).
    An attribute or label is a number or a text. Texts that pandas reads as missing, such as an
    empty cell, `nan` or `NA`, are unknown values. An empty `mask_path` means no mask. Listed images
    that do not exist are left out and counted.

    A folder whose files are Parquet files with these columns is one manifest of all of them. The
    images are not listed, unless `options.strict` is on: one that is missing is a bad image.

    Raises:
        UserError: a file cannot be read, lacks a column, or holds a value that is not allowed.
    """
    files = find_manifest(location)
    folder, file = files.folder, files.name
    found = read_table(files)
    table = found.table
    base = find_root(folder, table.schema.metadata, options.root)
    columns: dict[str, object] = {}
    paths: dict[str, pa.ChunkedArray] = {}
    attributes: list[Attribute] = []
    classes: tuple[str, ...] = ()
    notes = [
        f"{file}: column {name!r} is not a column of a manifest, skipped" for name in found.skipped
    ]
    names: dict[str, Mapping[str, int]] = {}
    for name in table.column_names:
        if note := missing_note(table[name], file, name):
            notes.append(note)
        if name in PATH_COLUMNS:
            texts = _text(table[name], file, name)
            paths[name] = relative_paths(texts, folder, base, file, name)
        elif name == "split":
            columns[name] = _text(table[name], file, name)
        elif name in _IDS:
            ids = read_ids(table[name], file, name, _IDS[name], _LAST_ID[name])
            columns[name], names[name] = ids.values, nontrivial_names(ids.numbers)
        elif name == "label":
            columns[name], classes = _read_categories(table[name], file, name, None)
        else:
            attribute = name.removeprefix("attr_")
            known = _known_values(attribute)
            columns[name], values = _read_categories(table[name], file, name, known)
            if len(values) < 2:
                raise UserError(f"{file}: {name} has one value only; leave the column out")
            attributes.append(Attribute(attribute, values))
    is_listed = not files.shards or options.strict
    if is_listed:
        paths["path"], listed = find_listed(base, paths["path"])
    del found, table  # their memory is needed to build the manifest
    manifest = build_manifest(
        base.uri,
        columns | paths,
        layout=NAME,
        schema=AttributeSchema(tuple(attributes)),
        classes=classes,
        notes=notes,
        person_ids=names.get("person", NO_NAMES),
        camera_ids=names.get("camera", NO_NAMES),
    )
    return keep_existing(manifest, listed, strict=options.strict) if is_listed else manifest


def _text(column: pa.ChunkedArray, file: str, name: str) -> pa.ChunkedArray:
    try:
        texts = column.cast(pa.large_string() if name in PATH_COLUMNS else pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{file}: column {name!r} is not text ({error})") from None
    return _empty_as_null(texts) if name == "mask_path" else texts


def _empty_as_null(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


def _known_values(attribute: str) -> tuple[str, ...] | None:
    return next((a.values for a in PEDESTRIAN_SCHEMA.attributes if a.name == attribute), None)


def _read_categories(
    column: pa.ChunkedArray, file: str, name: str, values: tuple[str, ...] | None
) -> tuple[pa.ChunkedArray, tuple[str, ...]]:
    """Return the label of each row of a column of numbers or texts, and the value of each label.

    Without known values, the values of numbers are the numbers themselves, and those of texts are
    the sorted texts. Labels that are numbers are renumbered without gaps, from 0.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        codes = read_whole_numbers(column, file, name)
        _check_codes(codes, file, name, values)
        if name == "label":
            present = pc.unique(codes).drop_null().sort()
            return pc.index_in(codes, value_set=present), tuple(map(str, present.to_pylist()))
        most = pc.max(codes).as_py()
        return codes, values or tuple(str(code) for code in range((most or 0) + 1))
    texts = missing_as_null(column.cast(pa.string()))
    values = values or tuple(sorted(texts.drop_null().unique().to_pylist()))
    codes = pc.index_in(texts, value_set=pa.array(values, pa.string()))
    unknown = pc.and_(pc.is_null(codes), pc.is_valid(texts))
    if pc.any(unknown).as_py():
        row = pc.index(unknown, True).as_py()
        raise UserError(
            f"{file}, row {row + 1}: {name} is {texts[row].as_py()!r}, "
            f"expected one of {', '.join(values)}"
        )
    return codes, values


def _check_codes(
    codes: pa.ChunkedArray, file: str, name: str, values: tuple[str, ...] | None
) -> None:
    least, most = (0, _LAST_LABEL) if name == "label" else (UNKNOWN, _LAST_VALUE)
    most = len(values) - 1 if values else most
    wrong = pc.or_(pc.less(codes, least), pc.greater(codes, most))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise UserError(
            f"{file}, row {row + 1}: {name} is {codes[row].as_py()}, "
            f"expected a code from {least} to {most}"
        )


register_layout(sys.modules[__name__], order=10)
