"""Keep the rows of a large table in a temporary file, which the system maps into memory."""

import ctypes
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.storage.staging import naming_write_errors

IN_MEMORY_BYTES = 2**26
"""Bytes that a table in memory holds at most; the rows of a larger one lie in a file."""

ROWS_AT_ONCE = 2**16
"""Number of rows that are handled together."""


def store_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return a table of some batches, without a copy of all of them in memory.

    A large table lies in a file without a name, which the system removes with the table. The system
    reads its pages when they are needed, and drops them when memory is short.

    Args:
        batches: the rows.
        schema: their schema.

    Raises:
        MachineError: the disk of temporary files is full or failed.
    """
    batches = iter(batches)
    first, size = [], 0
    for batch in batches:
        first.append(batch)
        size += batch.nbytes
        if size > IN_MEMORY_BYTES:
            return _map_file(chain(first, batches), schema)
    return pa.Table.from_batches(first, schema).combine_chunks()


def _map_file(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Write some batches to a file without a name, and return them as a table of its pages."""
    advice = "make room, or name another folder by the variable TMPDIR"
    with (
        naming_write_errors(f"a temporary file in {tempfile.gettempdir()}", advice),
        tempfile.TemporaryFile() as file,
    ):
        with pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return pa.ipc.open_stream(pa.py_buffer(pages)).read_all()


def store_texts(change: Callable[[slice], pa.ChunkedArray], rows: int) -> pa.ChunkedArray:
    """Return a column of large strings that is computed part by part, as `store_rows` does.

    Args:
        change: function that returns the texts of some rows.
        rows: number of all rows.

    Raises:
        MachineError: the disk of temporary files is full or failed.
    """
    types = pa.schema({"text": pa.large_string()})
    parts = (change(slice(first, first + ROWS_AT_ONCE)) for first in range(0, rows, ROWS_AT_ONCE))
    batches = (batch for part in parts for batch in pa.table([part], schema=types).to_batches())
    return store_rows(batches, types)["text"]


def keep_rows(table: pa.Table, keep: pa.ChunkedArray) -> pa.Table:
    """Return the rows where the mask `keep` is true, or the table itself if it is true everywhere.

    A mask that is null drops the row.
    """
    if not table.num_rows or pc.all(keep, skip_nulls=False).as_py():
        return table
    return store_rows(_iter_kept(table, keep), table.schema)


def _iter_kept(table: pa.Table, keep: pa.ChunkedArray) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table where a mask is true."""
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        rows = table.slice(start, ROWS_AT_ONCE).filter(keep.slice(start, ROWS_AT_ONCE))
        yield from rows.to_batches()


def reorder_rows(table: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    """Return the rows of a table in another order.

    Arrow would copy all chunks of a table together for each part that it takes. They are copied
    once.

    Args:
        table: N rows.
        order: (N,) number of each row.
    """
    whole = table.combine_chunks()
    parts = (order[start : start + ROWS_AT_ONCE] for start in range(0, len(order), ROWS_AT_ONCE))
    batches = (batch for part in parts for batch in whole.take(part).to_batches())
    return store_rows(batches, table.schema)


def release_freed_memory() -> None:
    """Return memory that this process has freed to the system.

    The allocator of glibc keeps freed arrays of up to 32 MB for later. After tables of millions of
    rows these are hundreds of megabytes. Other allocators return such arrays by themselves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
