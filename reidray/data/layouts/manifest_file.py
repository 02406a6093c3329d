"""Read a manifest file: a CSV or Parquet file with the columns of a manifest."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, UNKNOWN, Attribute, AttributeSchema
from reidray.data.ids import (
    MISSING_VALUES,
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
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "manifest"
EXPECTED = "manifest.csv or manifest.parquet with the columns path and split"
SUFFIXES = (".csv", ".parquet")
BESIDE: frozenset[str] = frozenset()

_FILES = ("manifest.parquet", "manifest.csv")
_HEAD_BYTES = 4096
_PATHS = ("path", "mask_path")
_TEXT = (*_PATHS, "split")
_IDS: dict[str, Callable[[Iterable[str], str], dict[str, int]]] = {
    "person": number_person_ids,
    "camera": number_camera_ids,
}
_PLAIN_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_null,
)
"""Types of columns that are read. Other types are refused, as they may hold pickled objects."""

_LAST_LABEL, _LAST_VALUE = 32_767, 127  # the manifest's int16 and int8


def recognises(_location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    return any(file in names for file in _FILES)


def has_columns(location: Location, file: str) -> bool:
    """Return whether a CSV or Parquet file has the columns that a manifest needs."""
    try:
        if file.endswith(".parquet"):
            names = location.read_with(file, papq.read_schema).names
        else:
            head = location.read_head(file, _HEAD_BYTES)
            line = head.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
            names = [name.strip().strip('"') for name in line.split(_delimiter(head))]
    except (pa.ArrowException, OSError):
        return False
    return {"path", "split"} <= set(names)


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a manifest file, or of a folder that holds one.

    Relative paths begin at `options.root`, at the `root` in the metadata of a Parquet file, or at
    the folder of the file. Absolute paths must lie below that root.

    The columns `path` and `split` are required; `person`, `camera`, `label`, `mask_path` and
    `attr_<name>` are optional. A person or camera is a number or a name (see `number_person_ids`).
    An attribute or label is a number or a text. Texts that pandas reads as missing, such as an
    empty cell, `nan` or `NA`, are unknown values. An empty `mask_path` means no mask. Listed images
    that do not exist are left out and counted.

    Raises:
        UserError: the file cannot be read, lacks a column, or holds a value that is not allowed.
    """
    folder, file = _find(location)
    table = _read_table(folder.read_bytes(file), file)
    _check_columns(table.schema, file)
    base = find_root(folder, table.schema.metadata, options.root)
    columns: dict[str, object] = {}
    paths: dict[str, list[str | None]] = {}
    attributes: list[Attribute] = []
    classes: tuple[str, ...] = ()
    notes = []
    names: dict[str, Mapping[str, int]] = {}
    for name in table.column_names:
        if _is_read(name) and (note := missing_note(table[name], file, name)):
            notes.append(note)
        if name in _PATHS:
            texts = _text(table[name], file, name)
            paths[name] = relative_paths(texts, folder, base, file, name)
        elif name in _TEXT:
            columns[name] = _text(table[name], file, name)
        elif name in _IDS:
            ids = read_ids(table[name], file, name, _IDS[name])
            columns[name], names[name] = ids.values, nontrivial_names(ids.numbers)
        elif name == "label":
            columns[name], classes = _read_categories(table[name], file, name, None)
        elif name.startswith("attr_"):
            attribute = name.removeprefix("attr_")
            known = _known_values(attribute)
            columns[name], values = _read_categories(table[name], file, name, known)
            if len(values) < 2:
                raise UserError(f"{file}: {name} has one value only; leave the column out")
            attributes.append(Attribute(attribute, values))
        else:
            notes.append(f"{file}: column {name!r} is not a column of a manifest, skipped")
    paths["path"], files = find_listed(base, paths["path"])
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
    return keep_existing(manifest, files, strict=options.strict)


def _check_columns(schema: pa.Schema, file: str) -> None:
    """Check that a table has the required columns, none twice, and only texts and numbers."""
    names = schema.names
    missing = [name for name in ("path", "split") if name not in names]
    if missing:
        found = ", ".join(map(repr, names))
        raise UserError(f"{file}: columns missing: {', '.join(missing)}; found {found}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{file}: column {twice[0]!r} occurs twice; keep one of them")
    for field in filter(lambda field: _is_read(field.name), schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_kind(kind) for is_kind in _PLAIN_TYPES):
            raise UserError(
                f"{file}: column {field.name!r} holds {kind}, expected text or numbers; "
                "write it as one of them"
            )


def _is_read(name: str) -> bool:
    return name in (*_TEXT, *_IDS, "label") or name.startswith("attr_")


def _find(location: Location) -> tuple[Location, str]:
    if location.is_file():
        return location.parent, location.name
    names = location.list_children()
    file = next((file for file in _FILES if file in names), None)
    if file is None:
        raise UserError(f"{location.uri}: holds no {' or '.join(_FILES)}")
    return location, file


def _read_table(data: bytes, file: str) -> pa.Table:
    """Return a file as a table; texts and ids of a CSV file are never read as numbers or dates."""
    try:
        if file.endswith(".parquet"):
            table = papq.read_table(io.BytesIO(data))
        else:
            types = dict.fromkeys((*_TEXT, *_IDS), pa.string())
            options = pacsv.ConvertOptions(column_types=types, null_values=sorted(MISSING_VALUES))
            parsing = pacsv.ParseOptions(delimiter=_delimiter(data))
            table = pacsv.read_csv(io.BytesIO(data), parse_options=parsing, convert_options=options)
        table.validate(full=True)
        _ = table.column_names  # Arrow decodes the names only now
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read as a table ({reason})") from None
    return table


def _delimiter(data: bytes) -> str:
    """Return the delimiter of a CSV file: a comma, unless its header holds another and no comma."""
    header = data[:_HEAD_BYTES].partition(b"\n")[0]
    others = [mark for mark in (b";", b"\t") if mark in header]
    return others[0].decode() if others and b"," not in header else ","


def _text(column: pa.ChunkedArray, file: str, name: str) -> pa.ChunkedArray:
    try:
        texts = column.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{file}: column {name!r} is not text ({error})") from None
    return _empty_as_null(texts) if name == "mask_path" else texts


def _empty_as_null(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


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
