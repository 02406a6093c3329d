"""Match the images of a nightly run with those of the run whose ranking is kept.

An image is the same where its path and the place of its embedding in the store are: the part with
its size, and the row. No two embeddings ever have the same place, as the number of a part is never
free again, the names of files are random, and what rewrites a part removes all kept rankings.
Listings are sorted by path, so the same images are in the same order in both runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.scoring.stages.located_images import LocatedShard, ShardRows, read_rows_of
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.store.described_tables import open_parquet, to_parquet
from reidray.scoring.store.kept_ranking import DamagedRankingError, KeptFile
from reidray.scoring.store.part_storage import Part, PartFolder


@dataclass(frozen=True)
class MatchedShard:
    """Name the working file that matches the images of a shard with those of the earlier run.

    Attributes:
        located: the shard.
        num_new: number of images that decode and were not in the earlier run.
        kept: the file of the store with the images of the shard, for the next run.
    """

    located: LocatedShard
    num_new: int
    kept: KeptFile

    @property
    def file(self) -> str:
        """Return the working file: the position of each image in the earlier listing, or -1."""
        return self.located.shard.file("matched")

    def read_earlier(self, images: NightlyImages) -> NDArray[np.int64]:
        """Return (N,) positions of the images in the earlier listing, or -1; the others ascend."""
        positions: NDArray[np.int64] = images.read_table(self.file)["earlier"].to_numpy()
        return positions

    def read_rows(self, images: NightlyImages) -> ShardRows:
        """Return where the images are that decode and were not in the earlier run."""
        rows = read_rows_of(images, self.located)
        is_new = self.read_earlier(images) < 0
        return rows.select(is_new[rows.positions - images.shard(self.located.shard).first])


def match_images(
    runner: TaskRunner,
    images: Shared,
    located: Sequence[LocatedShard],
    earlier: Sequence[KeptFile],
) -> list[MatchedShard]:
    """Match the images of a role with those of an earlier run, and keep their names in the store.

    Args:
        runner: runs the tasks, one for each shard.
        images: the `NightlyImages`, shared; the store is a `PartFolder`.
        located: the shards of the role.
        earlier: the files with the shards of the earlier run; empty where there is none.
    """
    return list(runner.run(_match_shard, located, images, tuple(earlier)))


def _match_shard(
    located: LocatedShard, images: NightlyImages, earlier: tuple[KeptFile, ...]
) -> MatchedShard:
    """Match the images of a shard."""
    table, paths = (
        images.read_table(located.file, ["part", "row"]),
        images.read_paths(located.shard),
    )
    parts, rows = table["part"].to_numpy(), table["row"].to_numpy()
    numbers = np.unique(parts[parts >= 0])
    names = [_place_of(images.contents.parts[number]) for number in numbers]
    positions = np.full(len(table), -1)
    for file in _overlapping(earlier, paths[0].as_py(), paths[-1].as_py()):
        before = read_kept(images, file, ["path", "part", "row"])
        numbers_before = _numbers_of(before["part"], names, numbers)
        places = _find_paths(paths, before["path"])
        is_same = (places >= 0) & (parts >= 0)
        is_same &= (numbers_before[places] == parts) & (before["row"].to_numpy()[places] == rows)
        positions[is_same] = file.first + places[is_same]
    images.write_table(located.shard.file("matched"), pa.table({"earlier": positions}))
    is_new = (positions < 0) & (parts >= 0)
    kept = pa.table({"path": paths, "part": _name_parts(parts, names, numbers), "row": rows})
    return MatchedShard(located, int(is_new.sum()), _keep_shard(located, images, kept))


def _keep_shard(located: LocatedShard, images: NightlyImages, table: pa.Table) -> KeptFile:
    """Write the names of the images of a shard into a file of the store."""
    storage, shard = images.contents.storage, images.shard(located.shard)
    assert isinstance(storage, PartFolder)
    written = storage.write_file(to_parquet(table, {"keeps": located.shard.role}))
    return KeptFile(
        written.path,
        written.size,
        located.shard.role,
        shard.first,
        shard.rows,
        shard.first_path,
        shard.last_path,
    )


def read_kept(images: NightlyImages, file: KeptFile, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a file of the earlier run.

    Args:
        images: the images of the run.
        file: the file.
        columns: `path`, `part` (null if bad) and `row` for the images of a shard; `query`, `keys`
            and `images` for the lists of a block.

    Raises:
        DamagedRankingError: the file cannot be read, or its bytes have changed.
    """
    storage = images.contents.storage

    def read(opened: pa.NativeFile) -> pa.Table:
        return open_parquet(opened).read(columns=list(columns), use_threads=False)

    try:
        return storage.read(Part(file.path, file.size), read)
    except UserError as error:
        raise DamagedRankingError(
            f"{storage.uri}: {file.path} of the last ranking is damaged"
        ) from error


def _overlapping(files: Sequence[KeptFile], first: str, last: str) -> Iterator[KeptFile]:
    """Yield the shards that may hold a path between two paths, both included."""
    return (file for file in files if file.first_path <= last and first <= file.last_path)


def _place_of(part: Part) -> str:
    """Return what no other part has, nor the same part after it is rewritten."""
    return f"{part.path}:{part.size}"


def _find_paths(paths: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the index of each path among others, or -1."""
    if paths.equals(among):
        return np.arange(len(paths))
    found = pc.index_in(paths, value_set=among.combine_chunks())
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


def _numbers_of(
    parts: pa.ChunkedArray, names: Sequence[str], numbers: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the number of each part by its name, or -1 for null and for names not given."""
    found = np.asarray(pc.fill_null(pc.index_in(parts, value_set=pa.array(names, pa.string())), -1))
    of_part: NDArray[np.int64] = np.append(numbers, -1)[found]
    return of_part


def _name_parts(
    parts: NDArray[np.int32], names: Sequence[str], numbers: NDArray[np.int32]
) -> pa.Array:
    """Return the name of each part by its number, null for -1."""
    codes = pa.array(np.searchsorted(numbers, parts), mask=parts < 0)
    return pa.array(names, pa.string()).take(codes)
