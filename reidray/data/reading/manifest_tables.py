"""Find the files of a manifest, and read them as one table of plain columns."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from reidray.data.ids import MISSING_VALUES
from reidray.data.reading.manifest_paths import ROOT_KEY
from reidray.data.stored_rows import store_rows
from reidray.errors import UserError
from reidray.storage.location import Location

FILES = ("manifest.parquet", "manifest.csv")
"""Names of a manifest in a folder, the preferred first."""

PATH_COLUMNS, ID_COLUMNS = ("path", "mask_path"), ("person", "camera")

_HEAD_BYTES = 4096
_TEXT = (*PATH_COLUMNS, "split")
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


@dataclass(frozen=True)
class ManifestFiles:
    """Name the files of a manifest.

    Attributes:
        folder: folder of the files, to which the paths of the images are relative.
        name: name of the file, or of the folder of shards, for messages.
        shards: names of the Parquet files of a folder of shards, sorted; empty for one file.
    """

    folder: Location
    name: str
    shards: tuple[str, ...] = ()


@dataclass(frozen=True)
class ManifestTable:
    """Hold the columns of a manifest that are read, as its files have them.

    Attributes:
        table: the columns.
        skipped: names of the columns that are not read.
    """

    table: pa.Table
    skipped: tuple[str, ...]


def find_manifest(location: Location) -> ManifestFiles:
    """Return the files of a manifest, given its file, or a folder that holds it or its shards.

    Raises:
        UserError: the folder holds no manifest.
    """
    if location.is_file():
        return ManifestFiles(location.parent, location.name)
    names = location.list_children()
    file = next((file for file in FILES if file in names), None)
    if file is not None:
        return ManifestFiles(location, file)
    shards = find_shards(location, names)
    if not shards:
        raise UserError(f"{location.uri}: holds no {' or '.join(FILES)}, and no shards of one")
    return ManifestFiles(location, location.name, shards)


def find_shards(location: Location, names: Sequence[str]) -> tuple[str, ...]:
    """Return the children of a folder if all are Parquet files of a manifest; else none.

    Files such as `_SUCCESS`, which writers of shards leave behind, do not count.
    """
    shards = tuple(name for name in names if not name.startswith("_"))
    if not shards or not all(name.endswith(".parquet") for name in shards):
        return ()
    return shards if has_columns(location, shards[0]) else ()


def is_read(name: str) -> bool:
    """Return whether a column of this name is read."""
    return name in (*_TEXT, *ID_COLUMNS, "label") or name.startswith("attr_")


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


def read_table(files: ManifestFiles) -> ManifestTable:
    """Return a manifest as a table, whose columns hold texts and numbers.

    Raises:
        UserError: a file cannot be read, lacks a column or holds other types, or the shards differ.
    """
    if files.shards:
        return _read_shards(files)
    table = _read_file(files.folder.read_bytes(files.name), files.name)
    _check_columns(table.schema, files.name)
    return _keep_read(table, table.column_names)


def _keep_read(table: pa.Table, names: Sequence[str]) -> ManifestTable:
    """Return the columns of a table that are read, given the names of all columns of its file."""
    read = [name for name in table.column_names if is_read(name)]
    skipped = tuple(name for name in names if not is_read(name))
    return ManifestTable(table.select(read), skipped)


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
    for field in filter(lambda field: is_read(field.name), schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_kind(kind) for is_kind in _PLAIN_TYPES):
            raise UserError(
                f"{file}: column {field.name!r} holds {kind}, expected text or numbers; "
                "write it as one of them"
            )


def _read_shards(files: ManifestFiles) -> ManifestTable:
    """Return the columns of all shards that are read, one below the other.

    Raises:
        UserError: a shard cannot be read, or differs from the first in its columns or its root.
    """
    schemas = [_read_schema(files, shard) for shard in files.shards]
    first = schemas[0]
    for shard, schema in zip(files.shards, schemas, strict=True):
        name = f"{files.name}/{shard}"
        if set(_read_names(schema)) != set(_read_names(first)):
            raise UserError(
                f"{name}: has the columns {', '.join(_read_names(schema))}, and {files.shards[0]} "
                f"has {', '.join(_read_names(first))}: write the same in all shards"
            )
        if _root_of(schema) != _root_of(first):
            raise UserError(
                f"{name}: its metadata name another root than {files.shards[0]}: write the same in "
                "all shards"
            )
    try:
        types = pa.unify_schemas(
            [_read_types(schema) for schema in schemas], promote_options="permissive"
        )
    except pa.ArrowException as error:
        raise _unreadable(files.name, error) from None
    table = store_rows(_iter_shards(files, types), types)
    return _keep_read(table, first.names)


def _read_schema(files: ManifestFiles, shard: str) -> pa.Schema:
    """Return the schema of a shard, whose columns are checked."""
    name = f"{files.name}/{shard}"
    try:
        schema = files.folder.read_with(shard, papq.read_schema)
        _check_columns(schema, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from None
    return schema


def _read_names(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that are read."""
    return [name for name in schema.names if is_read(name)]


def _read_types(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a schema that are read; paths as large strings, as a manifest holds."""
    types = {name: schema.field(name).type for name in _read_names(schema)}
    types |= {name: pa.large_string() for name in PATH_COLUMNS if types.get(name) == pa.string()}
    return pa.schema(types, schema.metadata)


def _iter_shards(files: ManifestFiles, types: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all shards with columns of some types."""
    for shard in files.shards:
        try:
            reader = partial(papq.read_table, columns=types.names)
            table = files.folder.read_with(shard, reader)
            table.validate(full=True)
            batches = table.select(types.names).cast(types).to_batches()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(f"{files.name}/{shard}", error) from None
        yield from batches


def _root_of(schema: pa.Schema) -> bytes | None:
    """Return the root that the metadata of a schema name."""
    root: bytes | None = (schema.metadata or {}).get(ROOT_KEY)
    return root


def _unreadable(file: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{file}: cannot be read as a table ({reason})")


def _read_file(data: bytes, file: str) -> pa.Table:
    """Return a file as a table; texts and ids of a CSV file are never read as numbers or dates."""
    try:
        if file.endswith(".parquet"):
            table = papq.read_table(io.BytesIO(data))
        else:
            types = dict.fromkeys((*_TEXT, *ID_COLUMNS), pa.string())
            options = pacsv.ConvertOptions(column_types=types, null_values=sorted(MISSING_VALUES))
            parsing = pacsv.ParseOptions(delimiter=_delimiter(data))
            table = pacsv.read_csv(io.BytesIO(data), parse_options=parsing, convert_options=options)
        table.validate(full=True)
        _ = table.column_names  # Arrow decodes the names only now
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from None
    return table


def _delimiter(data: bytes) -> str:
    """Return the delimiter of a CSV file: a comma, unless its header holds another and no comma."""
    header = data[:_HEAD_BYTES].partition(b"\n")[0]
    others = [mark for mark in (b";", b"\t") if mark in header]
    return others[0].decode() if others and b"," not in header else ","
