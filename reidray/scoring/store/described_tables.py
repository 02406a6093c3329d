"""Write tables as Parquet files whose metadata say what they hold, and read what they say."""

import io
import json
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

METADATA_KEY, CHECKSUM_KEY = b"reidray", b"reidray_crc32"
ROW_GROUP = 4096
"""Rows in a row group, which is read as a whole where one of them is needed."""

REPEATED_COLUMNS = ["folder", "reason", "part"]
"""Columns with the same value in many rows."""


def to_parquet(table: pa.Table, described: dict[str, Any]) -> bytes:
    """Return the bytes of a Parquet file of a table.

    Args:
        table: the table.
        described: what the file holds, as `read_description` returns it; a JSON object.
    """
    file = io.BytesIO()
    text = json.dumps(described).encode()
    metadata = {METADATA_KEY: text, CHECKSUM_KEY: _checksum(text)}
    repeated = [name for name in REPEATED_COLUMNS if name in table.column_names]
    pq.write_table(
        table.replace_schema_metadata(metadata),
        file,
        row_group_size=ROW_GROUP,
        use_dictionary=repeated or False,
        write_page_checksum=True,
    )
    return file.getvalue()


def open_parquet(file: pa.NativeFile | io.BytesIO) -> pq.ParquetFile:
    """Open a Parquet file of a store, whose pages are compared with their checksums.

    Reading a damaged page raises an OSError. Files of earlier versions have no checksums.
    """
    return pq.ParquetFile(file, page_checksum_verification=True)


def read_description(opened: pq.ParquetFile) -> dict[str, Any]:
    """Return what the metadata of a file say that it holds.

    Raises:
        KeyError: the file has no such metadata.
        ValueError: the metadata have changed.
    """
    metadata = opened.schema_arrow.metadata or {}
    text = metadata[METADATA_KEY]
    if metadata.get(CHECKSUM_KEY, _checksum(text)) != _checksum(text):  # earlier files have none
        raise ValueError("its description has changed")
    described: dict[str, Any] = json.loads(text)
    return described


def read_columns(opened: pq.ParquetFile, names: Sequence[str]) -> pa.Table:
    """Return some columns of a file.

    Raises:
        KeyError: the file has no such column.
    """
    return opened.read(columns=list(names), use_threads=False).select(list(names))


def _checksum(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()
