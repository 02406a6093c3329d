"""Look up the images of a nightly run in a store, by joining its listing with the parts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.inference.image_batches import (
    BATCH_SIZE,
    Digests,
    ImageBatch,
)
from reidray.scoring.stages.nightly_images import NightlyImages, RoleShard
from reidray.scoring.store.stored_images import (
    KnownImages,
    StoreContents,
    digest_keys,
    embedded_keys,
    find_images,
)

Item = TypeVar("Item")

PARTS_IN_TASK = 16
"""Parts of a store that a task reads the digests of."""


@dataclass(frozen=True)
class LookedUpShard:
    """Name the working files of a shard of a listing that was looked up in the store.

    Attributes:
        shard: the shard.
        num_missing: number of images to embed.
    """

    shard: RoleShard
    num_missing: int

    @property
    def known_file(self) -> str:
        """Return the working file with what the store knows, a row for each image.

        Its columns are `reason`, `part` and `row` of `KnownImages`, and `content`, the digest of an
        image whose row in the store has neither a reason nor an embedding.
        """
        return self.shard.file("known")

    @property
    def missing_file(self) -> str:
        """Return the working file of the images to embed: `index`, `path` and `stamp`.

        There is none where no image of the shard is missing.
        """
        return self.shard.file("missing")


def collect_keys(runner: TaskRunner, images: NightlyImages) -> Shared:
    """Return the sorted keys of all digests that have an embedding, or None for an empty store."""
    contents = images.contents
    if not contents.embedded_parts():
        return runner.share(None)
    groups = part_groups(contents)
    return runner.collect(_read_keys, groups, runner.share(contents), merge=_merge_keys)


def part_groups(contents: StoreContents) -> list[list[int]]:
    """Return the indices of the parts with embeddings in groups for tasks, one group at least."""
    return group_parts(contents.embedded_parts())


def group_parts(parts: list[int]) -> list[list[int]]:
    """Return indices of parts in groups for tasks, one group at least."""
    starts = range(0, max(1, len(parts)), PARTS_IN_TASK)
    return [parts[start : start + PARTS_IN_TASK] for start in starts]


def group_by_count(
    items: Iterable[Item], count: Callable[[Item], int], limit: int
) -> Iterator[list[Item]]:
    """Yield items in groups that are handled together, in their order.

    >>> list(group_by_count([3, 4, 2, 9, 1], lambda item: item, 6))
    [[3], [4, 2], [9], [1]]

    Args:
        items: the items.
        count: function that returns the size of an item.
        limit: largest size of a group of several items.
    """
    group: list[Item] = []
    size = 0
    for item in items:
        if group and size + count(item) > limit:
            yield group
            group, size = [], 0
        group.append(item)
        size += count(item)
    if group:
        yield group


def look_up_images(
    runner: TaskRunner, images: NightlyImages, keys: Shared
) -> tuple[LookedUpShard, ...]:
    """Write what the store knows, and the images that have to be embedded, into working files.

    Args:
        runner: runs the tasks, one for each shard of the listings.
        images: the images of the run.
        keys: result of `collect_keys`.

    Returns:
        The shards, in the order of the roles and paths.
    """
    return tuple(runner.run(_look_up_shard, images.shards(), runner.share(images), keys))


def known_table(known: KnownImages) -> pa.Table:
    """Return the rows of a `known_file`."""
    is_open = (known.parts < 0) & np.asarray(known.reasons.is_null())
    digests = pc.if_else(pa.array(is_open), known.digests, None)
    columns = {"reason": known.reasons, "content": digests}
    return pa.table({**columns, "part": known.parts, "row": known.rows})


def count_missing(shards: Sequence[LookedUpShard]) -> int:
    """Return the number of images to embed."""
    return sum(each.num_missing for each in shards)


def iter_batches(images: NightlyImages, shards: Sequence[LookedUpShard]) -> Iterator[ImageBatch]:
    """Yield batches of the images to embed, each of one shard."""
    for each in shards:
        if each.num_missing:
            yield from read_slice(ImageSlice(each, 0, each.num_missing), images)


@dataclass(frozen=True)
class ImageSlice:
    """Name a range of the missing images of a shard."""

    shard: LookedUpShard
    start: int
    stop: int


def slice_missing(shards: Sequence[LookedUpShard], length: int) -> tuple[ImageSlice, ...]:
    """Return ranges of the missing images of some shards, of a length at most."""
    return tuple(
        ImageSlice(each, start, min(start + length, each.num_missing))
        for each in shards
        for start in range(0, each.num_missing, length)
    )


def read_slice(item: ImageSlice, images: NightlyImages) -> Iterator[ImageBatch]:
    """Yield the batches of a range of missing images."""
    table = images.read_table(item.shard.missing_file).slice(item.start, item.stop - item.start)
    yield from split_batches(images, item.shard.shard.role, table)


def split_batches(images: NightlyImages, role: str, rows: pa.Table) -> Iterator[ImageBatch]:
    """Yield rows of a `missing_file` in batches."""
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows.slice(start, BATCH_SIZE)
        columns = (tuple(batch[name].to_pylist()) for name in ("index", "path", "stamp"))
        yield ImageBatch(role, images.listings[role].images, *columns)


def _read_keys(parts: Sequence[int], contents: StoreContents) -> Digests:
    return embedded_keys(contents, parts)


def _merge_keys(keys: Sequence[Digests]) -> Digests:
    return keys[0] if len(keys) == 1 else np.sort(np.concatenate(keys))


def _look_up_shard(item: RoleShard, images: NightlyImages, keys: Digests | None) -> LookedUpShard:
    """Write what the store knows of the images of a shard, and those that have to be embedded."""
    table = images.read(item)
    known = find_images(images.contents, images.folder(item.role), table["path"], table["stamp"])
    looked_up = LookedUpShard(item, 0)
    images.write_table(looked_up.known_file, known_table(known))

    is_missing = (known.parts < 0) & np.asarray(known.reasons.is_null())
    unsure = np.flatnonzero(is_missing & np.asarray(known.digests.is_valid()))
    if len(unsure) and keys is not None:
        is_missing[unsure[_contain(keys, known.digests.take(pa.array(unsure)))]] = False
    missing = np.flatnonzero(is_missing)
    if len(missing):
        index = pa.array(images.shard(item).first + missing, pa.int64())
        rows = table.take(pa.array(missing)).add_column(0, "index", index)
        images.write_table(looked_up.missing_file, rows)
    return replace(looked_up, num_missing=len(missing))


def _contain(keys: Digests, digests: pa.Array) -> np.ndarray:
    """Return for each of some digests whether its key is among sorted keys."""
    wanted = digest_keys(digests)
    places = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    return np.asarray(keys[places] == wanted) if len(keys) else np.zeros(len(wanted), bool)
