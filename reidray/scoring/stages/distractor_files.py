"""Score the distractors of the gallery, leave the likeliest out, and list all in order.

A task scores the images of a shard and sorts them. The list is made in ranges of scores, each of
which a task collects from all shards, so that no process holds the scores of the whole gallery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.scoring.gallery_distractors import (
    DISTRACTOR_SCORE,
    combine_scores,
    distractor_table,
)
from reidray.scoring.stages.gallery_neighbours import GalleryNeighbours
from reidray.scoring.stages.located_images import LocatedShard, read_rows_of
from reidray.scoring.stages.nightly_images import NightlyImages

SAMPLE_ROWS = 2048
"""A shard tells the place of one in this number of its images."""

SAMPLES_IN_RANGE = 64
"""Places of images between the bounds of a range."""


@dataclass(frozen=True, order=True)
class ListPlace:
    """Hold the place of an image in the list; places are compared.

    Attributes:
        order: the negative of its `distractor_score`.
        position: its position in the listing, which decides between equal scores.
    """

    order: float
    position: int


@dataclass(frozen=True)
class ScoredShard:
    """Describe the scores of a shard of the gallery, which are in its working file.

    Attributes:
        shard: the shard.
        ranked: the shard without the images that are left out.
        num_left_out: number of these.
        least_score: the least `distractor_score`; infinity where no image decodes.
        sample: places of some images, that of the first among them.
    """

    shard: LocatedShard
    ranked: LocatedShard
    num_left_out: int
    least_score: float
    sample: tuple[ListPlace, ...]

    @property
    def file(self) -> str:
        """Return the working file of the images that decode, in the order of the list."""
        return self.shard.shard.file("scores")


def score_gallery(
    runner: TaskRunner,
    images: Shared,
    gallery: Sequence[LocatedShard],
    neighbours: GalleryNeighbours,
    max_score: float | None,
) -> tuple[ScoredShard, ...]:
    """Score the distractors of the gallery, and leave out the likeliest.

    Args:
        runner: runs the tasks, one for each shard.
        images: the `NightlyImages`, shared.
        gallery: the shards of the gallery.
        neighbours: the working files of their neighbours.
        max_score: images with a higher `distractor_score` are left out; None leaves out none.

    Raises:
        UserError: no image is left.
    """
    scored = runner.run(_score_shard, gallery, images, runner.share(neighbours), max_score)
    shards = tuple(scored)
    num_decoded = sum(shard.num_decoded for shard in gallery)
    if max_score is not None and sum(each.num_left_out for each in shards) == num_decoded:
        least = min(each.least_score for each in shards)
        raise UserError(
            f"`max_distractor_score={max_score:g}` leaves out the whole gallery, whose least score "
            f"is {least:.4g}: raise it, or rank without it"
        )
    return shards


def write_distractor_chunks(
    runner: TaskRunner, images: Shared, shards: Sequence[ScoredShard]
) -> Iterator[str]:
    """Yield the names of working files that make up `distractors.csv`, in order.

    Args:
        runner: runs the tasks, one for each range of scores.
        images: the `NightlyImages`, shared.
        shards: the scores of all shards.
    """
    places = sorted(place for each in shards for place in each.sample)
    starts = places[::SAMPLES_IN_RANGE] or [ListPlace(-np.inf, 0)]
    bounds = zip(starts, [*starts[1:], None], strict=True)
    ranges = [_Range(number, first, end) for number, (first, end) in enumerate(bounds)]
    return runner.run(_write_range, ranges, images, tuple(each.file for each in shards))


@dataclass(frozen=True)
class _Range:
    """Name a range of the list.

    Attributes:
        number: number of the range, from 0.
        first: the first place in it.
        end: the first place behind it; None for the last range.
    """

    number: int
    first: ListPlace
    end: ListPlace | None


def _score_shard(
    located: LocatedShard,
    images: NightlyImages,
    neighbours: GalleryNeighbours,
    max_score: float | None,
) -> ScoredShard:
    """Write the scores of a shard, and its images that are ranked, into working files."""
    table = neighbours.read_scores(images, located)
    distance, doubt = (table[name].to_numpy() for name in ("distance", "doubt"))
    scores = combine_scores(distance, doubt if neighbours.all_have_doubt else None)
    decisive, rows = scores[DISTRACTOR_SCORE], read_rows_of(images, located)
    places = rows.positions - images.shard(located.shard).first

    is_left_out = np.zeros(len(decisive), bool)
    ranked = located
    if max_score is not None:
        is_left_out = ~(decisive <= max_score)
        ranked = _without(images, located, places[is_left_out])

    # Images whose score is not a number come last.
    order = np.where(np.isnan(decisive), np.float32(np.inf), -decisive)
    by_order = np.argsort(order, kind="stable")
    paths = images.read_paths(located.shard)
    columns = {"order": order, "position": rows.positions, **scores}
    listed = {name: values[by_order] for name, values in columns.items()}
    sampled = (listed[name][::SAMPLE_ROWS].tolist() for name in ("order", "position"))
    scored = ScoredShard(
        located,
        ranked,
        int(is_left_out.sum()),
        float(decisive.min(initial=np.inf)),
        tuple(map(ListPlace, *sampled)),
    )
    listed_paths = paths.take(pa.array(places[by_order]))
    images.write_table(scored.file, pa.table({"path": listed_paths, **listed}))
    return scored


def _without(
    images: NightlyImages, located: LocatedShard, places: NDArray[np.int64]
) -> LocatedShard:
    """Write the working file of a shard without some images, by their places in the shard."""
    table = images.read_table(located.file)
    parts = table["part"].to_numpy().copy()
    parts[places] = -1
    ranked = replace(located, without_distractors=True)
    place = table.schema.get_field_index("part")
    images.write_table(ranked.file, table.set_column(place, "part", pa.array(parts)))
    return ranked


def _write_range(item: _Range, images: NightlyImages, files: Sequence[str]) -> str:
    """Write the lines of a range of the list into a working file, and return its name."""
    filters = [("order", ">=", item.first.order)]
    if item.end is not None:
        filters.append(("order", "<=", item.end.order))
    read = partial(pq.read_table, filters=filters, use_threads=False)
    table = pa.concat_tables([images.work.read_with(file, read) for file in files])
    order, position = (table[name].to_numpy() for name in ("order", "position"))
    inside = ~_is_before(order, position, item.first)
    if item.end is not None:
        inside &= _is_before(order, position, item.end)
    chosen = np.flatnonzero(inside)
    chosen = chosen[np.lexsort((position[chosen], order[chosen]))]
    listed = table.drop_columns(["order", "position"]).take(pa.array(chosen))
    paths, *scores = (listed[name] for name in listed.column_names)
    names = listed.column_names[1:]
    data = distractor_table(
        paths.to_pylist(),
        {name: column.to_numpy() for name, column in zip(names, scores, strict=True)},
    )
    name = f"distractors/{item.number:06d}.csv"
    images.work.write_bytes(name, data if not item.number else data[data.index(b"\n") + 1 :])
    return name


def _is_before(
    order: NDArray[np.float32], position: NDArray[np.int64], place: ListPlace
) -> NDArray[np.bool_]:
    """Return (N,) whether each image comes before a place."""
    is_earlier = (order == place.order) & (position < place.position)
    return np.asarray((order < place.order) | is_earlier)
