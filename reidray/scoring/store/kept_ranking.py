"""Describe the ranking of a run that a store keeps for the next run, and list its files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from reidray.errors import UserError
from reidray.scoring.store.described_tables import to_parquet


class DamagedRankingError(UserError):
    """Signal that a file of a kept ranking cannot be read, so that the ranking is of no use."""


@dataclass(frozen=True)
class KeptFile:
    """Name a file of a kept ranking.

    Attributes:
        path: path relative to the store.
        size: bytes.
        kind: `query` or `gallery` for a shard of the listing of this role, `nearest` for the
            nearest gallery images of a block of queries.
        first: position of the first image in the listing of the role, of the queries for `nearest`.
        rows: number of images of the listing.
        first_path: the least path of a shard; empty for `nearest`.
        last_path: the greatest path of a shard; empty for `nearest`.
    """

    path: str
    size: int
    kind: str
    first: int
    rows: int
    first_path: str = ""
    last_path: str = ""

    @property
    def end(self) -> int:
        """Return the position after the last image."""
        return self.first + self.rows


@dataclass(frozen=True)
class KeptRanking:
    """Describe the ranking of a run.

    Attributes:
        queries: folder of the queries.
        gallery: folder of the gallery.
        metric: distance between embeddings.
        version: version of reidray that computed the distances.
        gallery_size: number of gallery images that were ranked.
        files: the files.
    """

    queries: str
    gallery: str
    metric: str
    version: str
    gallery_size: int
    files: tuple[KeptFile, ...]

    def of_kind(self, kind: str) -> tuple[KeptFile, ...]:
        """Return the files of a kind, in the order of the positions."""
        return tuple(file for file in self.files if file.kind == kind)

    def to_parquet(self) -> bytes:
        """Return the bytes of the part that lists the files."""
        described = {name: value for name, value in vars(self).items() if name != "files"}
        return to_parquet(pa.table(_columns(self.files)), {"ranks": described})

    @classmethod
    def from_parquet(cls, opened: pq.ParquetFile, described: dict[str, Any]) -> Self:
        """Return the ranking that a part describes; one that `is_damaged` if it cannot be read.

        Args:
            opened: the file of the part.
            described: its description.
        """
        try:
            rows = opened.read(use_threads=False).to_pylist()
            return cls(**described["ranks"], files=tuple(KeptFile(**row) for row in rows))
        except (pa.ArrowException, OSError, TypeError, ValueError):
            return cls("", "", "", "", 0, ())

    @property
    def is_damaged(self) -> bool:
        """Return whether the part that lists the files could not be read."""
        return not self.queries


def _columns(files: Sequence[KeptFile]) -> dict[str, list[Any]]:
    rows = [asdict(file) for file in files]
    return {field.name: [row[field.name] for row in rows] for field in fields(KeptFile)}
