"""Find the images of a nightly run that have no embedding, by joining its listing with a store."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.inference.image_batches import (
    BATCH_SIZE,
    Digests,
    ImageBatch,
)
from reidray.scoring.stages.nightly_images import NightlyImages, RoleShard
from reidray.scoring.store.stored_images import (
    StoreContents,
    digest_keys,
    embedded_keys,
    find_images,
)

Item = TypeVar("Item")

PARTS_IN_TASK = 16
"""Parts of a store that a task reads the digests of."""


@dataclass(frozen=True)
class MissingImages:
    """Name a working file of images to embed, of one shard of a listing.

    Attributes:
        shard: the shard.
        num_images: number of images.
    """

    shard: RoleShard
    num_images: int

    @property
    def file(self) -> str:
        """Return the working file, with the columns `index`, `path` and `stamp`."""
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


def find_missing(
    runner: TaskRunner, images: NightlyImages, keys: Shared
) -> tuple[MissingImages, ...]:
    """Write the images that have to be embedded into working files.

    Args:
        runner: runs the tasks, one for each shard of the listings.
        images: the images of the run.
        keys: result of `collect_keys`.

    Returns:
        The files that are not empty.
    """
    found = runner.run(_find_missing_of, images.shards(), runner.share(images), keys)
    return tuple(each for each in found if each.num_images)


def iter_batches(images: NightlyImages, missing: Sequence[MissingImages]) -> Iterator[ImageBatch]:
    """Yield batches of the images of working files, each of one shard."""
    for each in missing:
        table = images.read_table(each.file)
        for start in range(0, len(table), BATCH_SIZE):
            yield batch_of(images, each.shard.role, table.slice(start, BATCH_SIZE))


def batch_of(images: NightlyImages, role: str, rows: pa.Table) -> ImageBatch:
    """Return rows of a working file of `MissingImages` as a batch."""
    columns = (tuple(rows[name].to_pylist()) for name in ("index", "path", "stamp"))
    return ImageBatch(role, images.listings[role].images, *columns)


def _read_keys(parts: Sequence[int], contents: StoreContents) -> Digests:
    return embedded_keys(contents, parts)


def _merge_keys(keys: Sequence[Digests]) -> Digests:
    return keys[0] if len(keys) == 1 else np.sort(np.concatenate(keys))


def _find_missing_of(item: RoleShard, images: NightlyImages, keys: Digests | None) -> MissingImages:
    """Write the images of one shard that have to be embedded."""
    table = images.read(item)
    known = find_images(images.contents, images.folder(item.role), table["path"], table["stamp"])
    is_missing = (known.parts < 0) & np.asarray(known.reasons.is_null())
    unsure = np.flatnonzero(is_missing & np.asarray(known.digests.is_valid()))
    if len(unsure) and keys is not None:
        is_missing[unsure[_contain(keys, known.digests.take(pa.array(unsure)))]] = False
    indices = np.flatnonzero(is_missing)
    missing = MissingImages(item, len(indices))
    if len(indices):
        rows = table.take(pa.array(indices))
        first = images.shard(item).first
        index = pa.array(first + indices, pa.int64())
        images.write_table(missing.file, rows.add_column(0, "index", index))
    return missing


def _contain(keys: Digests, digests: pa.Array) -> np.ndarray:
    """Return for each of some digests whether its key is among sorted keys."""
    wanted = digest_keys(digests)
    places = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    return np.asarray(keys[places] == wanted) if len(keys) else np.zeros(len(wanted), bool)
