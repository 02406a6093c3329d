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
from reidray.scoring.store.described_tables import open_parquet, read_columns, to_parquet
from reidray.scoring.store.kept_ranking import DamagedRankingError, KeptFile
from reidray.scoring.store.part_storage import Part, PartFolder


@dataclass(frozen=True)
class ImageChanges:
    """Count what differs between the images of a role and those of the earlier run.

    Attributes:
        new: images whose path the earlier run did not have.
        changed: images that decode, whose path had another content or did not decode. Images that
            another model embeds, or that the run embeds again, have not changed.
        gone: images of the earlier run whose path is gone.
    """

    new: int
    changed: int
    gone: int


@dataclass(frozen=True)
class MatchedShard:
    """Name the working file that matches the images of a shard with those of the earlier run.

    Attributes:
        located: the shard.
        num_new: number of images that decode and were not in the earlier run.
        num_paths: number of images whose path the earlier run had.
        num_changed: number of these that decode and have another content than there.
        kept: the file of the store with the images of the shard, for the next run.
    """

    located: LocatedShard
    num_new: int
    num_paths: int
    num_changed: int
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


def count_changes(matched: Sequence[MatchedShard], earlier: Sequence[KeptFile]) -> ImageChanges:
    """Return what differs between the images of a role and those of an earlier run.

    Args:
        matched: the shards of the role.
        earlier: the files with the shards of the earlier run.
    """
    num_paths = sum(each.num_paths for each in matched)
    return ImageChanges(
        new=sum(each.kept.rows for each in matched) - num_paths,
        changed=sum(each.num_changed for each in matched),
        gone=sum(file.rows for file in earlier) - num_paths,
    )


def _match_shard(
    located: LocatedShard, images: NightlyImages, earlier: tuple[KeptFile, ...]
) -> MatchedShard:
    """Match the images of a shard."""
    contents = images.contents
    table = images.read_table(located.file, ["part", "row"])
    paths = images.read_paths(located.shard)
    parts, rows = table["part"].to_numpy(), table["row"].to_numpy()
    numbers = np.unique(parts[parts >= 0])
    names = [_place_of(contents.parts[number]) for number in numbers]
    own_parts = [_place_of(contents.parts[number]) for number in contents.embedded_parts()]
    positions, is_changed = np.full(len(table), -1), np.zeros(len(table), bool)
    num_paths = 0
    for file in _overlapping(earlier, paths[0].as_py(), paths[-1].as_py()):
        before = read_kept(images, file, ["path", "part", "row"])
        numbers_before = _numbers_of(before["part"], names, numbers)
        places = _find_paths(paths, before["path"])
        is_known = (places >= 0) & (parts >= 0)
        is_same = (numbers_before[places] == parts) & (before["row"].to_numpy()[places] == rows)
        positions[is_known & is_same] = file.first + places[is_known & is_same]
        num_paths += int((places >= 0).sum())
        is_own = pc.is_in(before["part"], value_set=pa.array(own_parts, pa.string()))
        is_own_or_bad = np.asarray(pc.or_(is_own, pc.is_null(before["part"])))
        is_changed |= is_known & ~is_same & is_own_or_bad[places]
    images.write_table(located.shard.file("matched"), pa.table({"earlier": positions}))
    is_new = (positions < 0) & (parts >= 0)
    kept = pa.table({"path": paths, "part": _name_parts(parts, names, numbers), "row": rows})
    return MatchedShard(
        located,
        num_new=int(is_new.sum()),
        num_paths=num_paths,
        num_changed=int(is_changed.sum()),
        kept=_keep_shard(located, images, kept),
    )


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
        return read_columns(open_parquet(opened), columns)

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
