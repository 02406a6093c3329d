"""Locate the embedding of each image of a nightly run in the store, and list the bad images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.data.images.decoding import NUM_EXAMPLES, BadImage
from reidray.inference.distributed.task_runner import TaskRunner
from reidray.inference.predictions import Predictions
from reidray.scoring.stages.missing_images import (
    LookedUpShard,
    group_by_count,
    known_table,
    part_groups,
)
from reidray.scoring.stages.nightly_images import NightlyImages, RoleShard
from reidray.scoring.store.part_file import DIGEST
from reidray.scoring.store.stored_images import (
    PREDICTION_COLUMNS,
    KnownImages,
    StoreContents,
    find_digests,
    find_images,
    read_predictions_at,
)

MAX_WANTED = 2_000_000
"""Digests that are searched together, in 64 MB of each task."""

UNREADABLE_SCHEMA = pa.schema(
    {"role": pa.string(), "path": pa.large_string(), "reason": pa.string()}
)
"""Columns of a working file of images whose files cannot be read."""


@dataclass(frozen=True)
class LocatedShard:
    """Name the working file that locates the images of a shard of a listing.

    Attributes:
        shard: the shard.
        num_images: number of images, M of which decode.
        num_decoded: M.
        bad: the first images that do not decode.
        num_wanted: number of images whose embedding is that of another image with the same content,
            and was not located yet.
        without_distractors: whether the working file leaves out the images that are not ranked, as
            if they did not decode.
    """

    shard: RoleShard
    num_images: int
    num_decoded: int
    bad: tuple[BadImage, ...]
    num_wanted: int = 0
    without_distractors: bool = False

    @property
    def file(self) -> str:
        """Return the working file: a row of `reason`, `part` and `row` for each image."""
        return self.shard.file("ranked" if self.without_distractors else "located")

    @property
    def num_bad(self) -> int:
        """Return the number of images that do not decode."""
        return self.num_images - self.num_decoded


def locate_images(
    runner: TaskRunner,
    images: NightlyImages,
    shards: Sequence[LookedUpShard],
    unreadable: Sequence[str],
) -> dict[str, tuple[LocatedShard, ...]]:
    """Locate every image of a run, all of which are embedded or bad.

    Args:
        runner: runs the tasks, one for each shard.
        images: the images of the run, with what it has embedded.
        shards: the shards, as they were looked up before.
        unreadable: names of the working files of `UNREADABLE_SCHEMA`.

    Returns:
        The shards of each role, in the order of the paths.

    Raises:
        RuntimeError: an image was not embedded.
    """
    shared, files = runner.share(images), tuple(unreadable)
    first_pass = runner.run(_locate_shard, shards, shared, files, runner.share(None))
    located = {each.shard: each for each in first_pass}
    looked_up = {each.shard: each for each in shards}
    incomplete = [each for each in located.values() if each.num_wanted]
    for group in group_by_count(incomplete, lambda each: each.num_wanted, MAX_WANTED):
        wanted = runner.collect(_read_wanted, group, shared, merge=_merge_wanted)
        contents = runner.share(images.contents)
        parts = part_groups(images.contents)
        found = runner.collect(_find_wanted, parts, contents, wanted, merge=_merge_found)
        group_again = [looked_up[each.shard] for each in group]
        again = runner.run(_locate_shard, group_again, shared, files, found)
        located |= {each.shard: each for each in again}
    return {
        role: tuple(each for each in located.values() if each.shard.role == role)
        for role in images.listings
    }


@dataclass(frozen=True, eq=False)
class ShardRows:
    """Hold where the images of a shard are that decode.

    Attributes:
        positions: (M,) int64 ascending, positions of these images in the listing.
        parts: (M,) int32, the parts with their embeddings.
        rows: (M,) int32, the rows in these parts.
    """

    positions: NDArray[np.int64]
    parts: NDArray[np.int32]
    rows: NDArray[np.int32]

    def select(self, chosen: NDArray[np.bool_] | slice) -> "ShardRows":
        """Return some of the images."""
        return ShardRows(self.positions[chosen], self.parts[chosen], self.rows[chosen])


def read_rows_of(
    images: NightlyImages, located: LocatedShard, between: slice = slice(None)
) -> ShardRows:
    """Return where the images of a shard are that decode.

    Args:
        images: the images of the run.
        located: the shard.
        between: range of the images of the shard.
    """
    table = images.read_table(located.file, ["part", "row"])
    parts, rows = (table[name].to_numpy()[between] for name in ("part", "row"))
    decoded = np.flatnonzero(parts >= 0)
    start = images.shard(located.shard).first + (between.start or 0)
    return ShardRows(start + decoded, parts[decoded], rows[decoded])


def read_predictions_of(
    images: NightlyImages, rows: ShardRows, columns: Sequence[str] = PREDICTION_COLUMNS
) -> Predictions:
    """Return the predictions for the images of a shard (see `read_predictions_at`)."""
    return read_predictions_at(images.contents, rows.parts, rows.rows, columns)


def _locate_shard(
    looked_up: LookedUpShard,
    images: NightlyImages,
    unreadable: tuple[str, ...],
    found: pa.Table | None,
) -> LocatedShard:
    """Locate the images of a shard.

    Args:
        looked_up: the shard.
        images: the images of the run.
        unreadable: working files of images that cannot be read.
        found: rows of `content`, `part` and `row` of images with the same content as others; None
            where they were not searched yet.

    Raises:
        RuntimeError: an image was not embedded.
    """
    item, known = looked_up.shard, _read_known(looked_up, images)
    reasons = _with_unreadable(known.reasons, item, images, unreadable)
    is_bad, parts, rows = np.asarray(reasons.is_valid()), known.parts.copy(), known.rows.copy()
    wanted = np.flatnonzero((parts < 0) & ~is_bad & np.asarray(known.digests.is_valid()))
    if len(wanted) and found is not None:
        places = pc.index_in(known.digests.take(pa.array(wanted)), value_set=found["content"])
        there = np.asarray(places.is_valid())
        chosen = found.take(places.drop_null())
        parts[wanted[there]], rows[wanted[there]] = (
            chosen[name].to_numpy() for name in ("part", "row")
        )
        wanted = wanted[~there]
    lost = (parts < 0) & ~is_bad
    if found is None:
        lost[wanted] = False
    if lost.any():
        first = images.read_paths(item)[int(np.argmax(lost))].as_py()
        raise RuntimeError(f"{first} and {lost.sum() - 1} others were not embedded")
    parts[is_bad] = -1
    located = LocatedShard(
        item, len(parts), int((~is_bad).sum()), _first_bad_images(item, images, reasons)
    )
    if found is None and len(wanted):
        digests = known.digests.take(pa.array(wanted))
        images.write_table(_wanted_file(item), pa.table({"content": digests}))
        return replace(located, num_wanted=len(wanted))
    images.write_table(located.file, pa.table({"reason": reasons, "part": parts, "row": rows}))
    return located


def _read_known(looked_up: LookedUpShard, images: NightlyImages) -> KnownImages:
    """Return what the store knows of the images of a shard, with those that were missing."""
    item = looked_up.shard
    table = images.read_table(looked_up.known_file)
    if looked_up.num_missing:
        missing = images.read_table(looked_up.missing_file)
        contents, folder = images.contents, images.folder(item.role)
        first_new = contents.num_earlier
        added = find_images(contents, folder, missing["path"], missing["stamp"], first_new)
        sources = np.arange(len(table))
        places = missing["index"].to_numpy() - images.shard(item).first
        sources[places] = np.arange(len(table), len(table) + len(missing))
        table = pa.concat_tables([table, known_table(added)]).take(pa.array(sources))
    reasons, digests = (table[name].combine_chunks() for name in ("reason", "content"))
    return KnownImages(digests, reasons, table["part"].to_numpy(), table["row"].to_numpy())


def _first_bad_images(
    item: RoleShard, images: NightlyImages, reasons: pa.Array
) -> tuple[BadImage, ...]:
    """Return the first images of a shard that do not decode."""
    rows = np.flatnonzero(np.asarray(reasons.is_valid()))[:NUM_EXAMPLES]
    if not len(rows):
        return ()
    paths = images.read_paths(item).take(pa.array(rows)).to_pylist()
    return tuple(map(BadImage, paths, reasons.take(pa.array(rows)).to_pylist()))


def _with_unreadable(
    reasons: pa.Array, item: RoleShard, images: NightlyImages, unreadable: tuple[str, ...]
) -> pa.Array:
    """Return the reasons of the images of a shard, with those of files that cannot be read."""
    paths = images.read_paths(item) if unreadable else None
    for file in unreadable:
        table = images.read_table(file)
        table = table.filter(pc.equal(table["role"], item.role))
        places = pc.index_in(paths, value_set=table["path"])
        reasons = pc.coalesce(reasons, table["reason"].take(places).combine_chunks())
    return reasons


def _wanted_file(shard: RoleShard) -> str:
    return shard.file("wanted")


def _read_wanted(located: LocatedShard, images: NightlyImages) -> pa.Array:
    column = images.read_table(_wanted_file(located.shard))["content"]
    return column.combine_chunks().unique().cast(DIGEST)


def _merge_wanted(wanted: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays(wanted).unique()


def _find_wanted(parts: Sequence[int], contents: StoreContents, wanted: pa.Array) -> pa.Table:
    return _merge_found([find_digests(contents, parts, wanted)])


def _merge_found(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the first row of each content, in the order of the parts and their rows."""
    table = pa.concat_tables(tables).sort_by([("part", "ascending"), ("row", "ascending")])
    table = table.combine_chunks()
    _, first = np.unique(_as_objects(table["content"]), return_index=True)
    return table.take(pa.array(np.sort(first)))


def _as_objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)
