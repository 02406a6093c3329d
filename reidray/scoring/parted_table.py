"""A table in Parquet files that only grows: a file appears whole, and stays as it is."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from reidray.data.storage import Location
from reidray.errors import UserError


@dataclass(frozen=True)
class PartedTable:
    """Rows of one schema in the files of a folder, in folders of the day each was written.

    Attributes:
        location: the store.
        folder: within it.
        schema: of each file.
        plain: the columns of which hardly any two rows agree.
    """

    location: Location
    folder: str
    schema: pa.Schema
    plain: tuple[str, ...]

    def parts(self) -> list[str]:
        """The files, in the order of their writing."""
        if not self.location.join(self.folder).is_folder():
            return []
        files = self.location.list_files(under=self.folder)
        return [file for file in files if file.endswith(".parquet")]

    def read(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a part.

        Raises:
            UserError: the file is damaged, or holds something else.
        """
        fields = [self.schema.field(name) for name in columns or self.schema.names]
        names = [field.name for field in fields]
        return self.reading(
            part,
            lambda file: (
                pq.ParquetFile(file)
                .read(columns=names, use_threads=False)
                .select(names)
                .cast(pa.schema(fields))
            ),
        )

    def reading(self, part: str, reader: Callable[[pa.NativeFile], Any]) -> Any:
        """What a reader makes of a part.

        Raises:
            UserError: the file is damaged, or holds something else.
            OSError: the disk or the object store failed.
        """
        try:
            return self.location.read_with(part, reader)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, OSError) as error:
            if isinstance(error, OSError):  # as Arrow calls damage too: what cannot be read at all?
                self.location.read_bytes(part)
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.location.join(part).uri}: is not a part of a store ({reason}); remove it, "
                "and what it held is embedded again"
            ) from error

    def append(self, rows: pa.Table) -> str:
        """Write some rows, which all appear at once.

        Returns:
            The new part.
        """
        now = datetime.now(UTC)
        name = f"{now:%H%M%S%f}-{uuid4().hex[:8]}.parquet"
        part = f"{self.folder}/day={now:%Y-%m-%d}/{name}"
        self.rewrite(part, rows)
        return part

    def rewrite(self, part: str, rows: pa.Table) -> None:
        """Put these rows in the place of those of a part."""
        file = io.BytesIO()
        common = [name for name in self.schema.names if name not in self.plain]
        pq.write_table(rows.cast(self.schema), file, use_dictionary=common)
        self.location.write_bytes(part, file.getbuffer())


def found_table(location: Location, folder: str, plain: tuple[str, ...]) -> PartedTable | None:
    """The table in a folder of a store, with the schema of its first part; None where it is empty.

    Raises:
        UserError: that part is damaged.
    """
    table = PartedTable(location, folder, pa.schema([]), plain)
    for part in table.parts():
        schema = table.reading(part, pq.read_schema)
        return replace(table, schema=schema.remove_metadata())
    return None


def day_of(part: str) -> str:
    """The day a part was written, as 2026-11-21."""
    return part.rpartition("/")[0].rpartition("day=")[2]
