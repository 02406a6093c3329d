"""Hold what every stage of a nightly run reads: the listings, the store and the working folder."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from reidray.config.scoring import ScoreConfig
from reidray.data.listing.image_listing import ImageListing, ListingShard, RunTasks
from reidray.data.listing.listing_job import write_listing
from reidray.scoring.ranking_file import check_names
from reidray.scoring.store.stored_images import StoreContents
from reidray.storage.location import Location

ROW_GROUP = 8192
"""Rows in a row group of a working file."""


@dataclass(frozen=True)
class NightlyImages:
    """Hold the images of a nightly run, and where they are known.

    Attributes:
        listings: the listing of each role, by its name.
        contents: the store.
        work: folder of the working files, which every process can read and write.
    """

    listings: Mapping[str, ImageListing]
    contents: StoreContents
    work: Location

    def folder(self, role: str) -> str:
        """Return the folder of a role, as a store names it."""
        return folder_name(self.listings[role].images)

    def shards(self) -> list["RoleShard"]:
        """Return the shards of all listings, in the order of the roles and paths."""
        return [
            RoleShard(role, number)
            for role, listing in self.listings.items()
            for number in range(len(listing.shards))
        ]

    def shard(self, item: "RoleShard") -> ListingShard:
        """Return a shard of a listing."""
        return self.listings[item.role].shards[item.number]

    def read(self, item: "RoleShard") -> pa.Table:
        """Return the columns `path` and `stamp` of a shard of a listing."""
        return self.listings[item.role].read(self.shard(item))

    def read_paths(self, item: "RoleShard") -> pa.ChunkedArray:
        """Return the paths of a shard of a listing."""
        return self.listings[item.role].read(self.shard(item), ["path"])["path"]

    def write_table(self, name: str, table: pa.Table) -> str:
        """Write a working file in one step, and return its name."""
        file = io.BytesIO()
        pq.write_table(table, file, row_group_size=ROW_GROUP)
        self.work.write_bytes(name, file.getbuffer())
        return name

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a working file, or some of its columns."""
        return self.work.read_with(
            name,
            lambda file: pq.ParquetFile(file).read(
                columns=None if columns is None else list(columns), use_threads=False
            ),
        )


@dataclass(frozen=True)
class RoleShard:
    """Name a shard of the listing of a role.

    Attributes:
        role: `query` or `gallery`.
        number: index of the shard in the listing.
    """

    role: str
    number: int

    def file(self, kind: str) -> str:
        """Return the name of the working file of a kind for this shard."""
        return f"{kind}/{self.role}-{self.number:06d}.parquet"


def list_roles(config: ScoreConfig, work: Location, run_tasks: RunTasks) -> dict[str, ImageListing]:
    """Return the listings of the queries and the gallery, written into the working folder.

    Args:
        config: `queries`, `gallery`, `follow_links` and `store` apply.
        work: folder of the working files.
        run_tasks: runs the calls that list, as `map` does.

    Raises:
        UserError: a folder is missing or holds no images, or the output files cannot hold a file
            name.
    """
    return {
        role: write_listing(
            Location(uri, config.follow_links),
            work,
            role,
            run_tasks,
            with_stamps=config.store is not None,
            check_names=check_names,
        )
        for role, uri in (("query", config.queries), ("gallery", config.gallery))
    }


def folder_name(images: Location) -> str:
    """Return the folder of some images, as a store names it."""
    return images.uri.partition("?")[0]
