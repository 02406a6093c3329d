"""Hold where the sorted paths and stamps of a set of images lie, and read them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as papq

from reidray.storage.location import Location

SHARD_ROWS = 131_072
"""The number of rows of a full shard."""

SCHEMA = pa.schema({"path": pa.large_string(), "stamp": pa.string()})
"""The columns of a shard."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class RunTasks(Protocol):
    """Run a function over items, as the built-in `map` does, or in parallel tasks.

    The function and the items can be pickled. The results come in the order of the items.
    """

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterator[Result]:
        """Yield the result of the function for each item."""
        ...


@dataclass(frozen=True)
class ListingShard:
    """Describe a Parquet file of a listing. Its rows are sorted by path, in code point order.

    Attributes:
        file: the path of the file within the folder of the shards.
        first: the position of its first row in the whole listing.
        rows: the number of rows, at least 1 and at most `SHARD_ROWS`.
        first_path: the path in the first row.
        last_path: the path in the last row.
    """

    file: str
    first: int
    rows: int
    first_path: str
    last_path: str


@dataclass(frozen=True)
class ImageListing:
    """Describe the sorted listing of the images of a folder.

    Attributes:
        images: the folder that the paths are relative to.
        work: the folder of the shard files.
        shards: the shards in the order of their paths. No two hold the same path.
        skipped: the number of files that are no images, by suffix or kind, as in `FoundImages`.
    """

    images: Location
    work: Location
    shards: tuple[ListingShard, ...]
    skipped: Mapping[str, int]

    @property
    def num_images(self) -> int:
        """Return the number of images."""
        return sum(shard.rows for shard in self.shards)

    def read(self, shard: ListingShard, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a shard.

        Args:
            shard: one of the shards.
            columns: names of the columns to read; None for both: `path` (large_string) and
                `stamp` (string), which is that of `Location.read_stamps`, or empty in a listing
                without stamps.

        Raises:
            OSError: the file cannot be read.
        """

        def read(file: pa.NativeFile) -> pa.Table:
            wanted = None if columns is None else list(columns)
            return papq.ParquetFile(file).read(columns=wanted)

        return self.work.read_with(shard.file, read)
