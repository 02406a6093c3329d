"""Write sorted paths and their stamps to Parquet files of a fixed number of rows."""

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as papq

from reidray.data.listing import image_listing
from reidray.data.listing.image_listing import SCHEMA, ListingShard
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.paths import is_utf8


class ShardWriter:
    """Collect rows, and write each `SHARD_ROWS` of them to a file, in the memory of one file.

    Attributes:
        shards: the written shards; their positions count from the first row of this writer.

    Args:
        work: the folder of the files.
        prefix: the beginning of the names of the files.
        check_names: raises a UserError for a path that later steps cannot take.
    """

    def __init__(
        self, work: Location, prefix: str, check_names: Callable[[Iterable[str]], None]
    ) -> None:
        self.shards: list[ListingShard] = []
        self._work = work
        self._prefix = prefix
        self._check_names = check_names
        self._pending: list[pa.Table] = []
        self._rows = self._written = 0

    def add(self, paths: Sequence[str], stamps: Sequence[str]) -> None:
        """Add rows. Their paths follow those of all earlier rows.

        Raises:
            UserError: a path is not UTF-8, or `check_names` refuses it.
            OSError: a file cannot be written.
        """
        self._check_names(paths)
        try:
            columns = [pa.array(paths, pa.large_string()), pa.array(stamps, pa.string())]
        except UnicodeEncodeError:
            path = next(path for path in paths if not is_utf8(path))
            raise UserError(f"file name {path!r} is not UTF-8; rename the file") from None
        self._pending.append(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._rows += len(paths)
        while self._rows >= image_listing.SHARD_ROWS:
            self._write(image_listing.SHARD_ROWS)

    def close(self) -> None:
        """Write the rows that are left.

        Raises:
            OSError: the file cannot be written.
        """
        if self._rows:
            self._write(self._rows)

    def _write(self, rows: int) -> None:
        """Write the first rows to a file, and keep the others."""
        pending = pa.concat_tables(self._pending)
        table = pending.slice(0, rows)
        self._pending = [pending.slice(rows)]
        self._rows -= rows
        data = pa.BufferOutputStream()
        papq.write_table(table, data, compression="zstd")
        file = f"{self._prefix}-{len(self.shards):05d}.parquet"
        self._work.write_bytes(file, memoryview(data.getvalue()))
        first_path, last_path = (table["path"][row].as_py() for row in (0, rows - 1))
        self.shards.append(ListingShard(file, self._written, rows, first_path, last_path))
        self._written += rows
