"""Search the gallery by the ranking that a store keeps, and keep that of this run.

A query that was ranked before is compared with the images that are new in the gallery. The other
queries are compared with the whole gallery, and so are those whose list has become too short. A run
keeps longer lists than it needs, so that few become too short as images go.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.retrieval.neighbours import Neighbours
from reidray.scoring.kept_rankings.matched_images import (
    ImageChanges,
    count_changes,
    match_images,
)
from reidray.scoring.kept_rankings.nearest_lists import (
    Positions,
    count_images,
    find_positions,
    merge_lists,
    read_lists,
    replace_lists,
    write_lists,
)
from reidray.scoring.stages.gallery_search import (
    Part,
    SearchSettings,
    search_images,
    split_parts,
)
from reidray.scoring.stages.located_images import LocatedShard
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import QueryBlock
from reidray.scoring.store.kept_ranking import KeptRanking
from reidray.scoring.store.part_storage import RankingPart

MIN_MARGIN = 16
"""Images that a list holds beyond those that the run needs, at least; or half as many as these."""

log = logging.getLogger("reidray")


class IncrementalSearch:
    """Search the gallery for blocks of queries, and collect the files of the ranking to keep.

    Attributes:
        num_searched: number of queries so far that were compared with the whole gallery.
        changes: what differs from the images of the ranking that is kept, by role; None where none
            is usable.
    """

    def __init__(
        self,
        runner: TaskRunner,
        images: NightlyImages,
        located: Mapping[str, Sequence[LocatedShard]],
        rankings: Sequence[RankingPart],
        metric: str,
        device: str,
    ) -> None:
        """Match the images of both roles with those of the ranking that is kept.

        Args:
            runner: runs the tasks.
            images: the images of the run.
            located: the shards of each role.
            rankings: the rankings that the store keeps.
            metric: distance between embeddings.
            device: device that searches.
        """
        self._runner, self._images = runner, runner.share(images)
        self._metric, self._device, self.num_searched = metric, device, 0
        self._folders = images.folder("query"), images.folder("gallery")
        self._earlier = _choose(rankings, self._folders, metric, images.contents.storage.uri)
        earlier = {
            kind: () if self._earlier is None else self._earlier.of_kind(kind)
            for kind in (*located, "nearest")
        }
        self._lists = earlier["nearest"]
        self._queries, self._matched = (
            match_images(runner, self._images, located[role], earlier[role])
            for role in ("query", "gallery")
        )
        self.changes: Mapping[str, ImageChanges] | None = None
        if self._earlier is not None:
            matched = {"query": self._queries, "gallery": self._matched}
            self.changes = {
                role: count_changes(shards, earlier[role]) for role, shards in matched.items()
            }
        self._gallery = located["gallery"]
        self._gallery_size = sum(shard.num_decoded for shard in self._gallery)
        self._files = [each.kept for each in (*self._queries, *self._matched)]

    def search(self, block: QueryBlock, query: Shared, k: int) -> Shared:
        """Return the k `Neighbours` of the queries of a block in the gallery, and keep more.

        Args:
            block: the block, M queries of which decode.
            query: (M, D) features of these, shared.
            k: number of images for each query.
        """
        length = k + max(MIN_MARGIN, k // 2)
        runner, images, needed = self._runner, self._images, min(k, self._gallery_size)
        shard = self._queries[block.located.shard.number]
        lists = runner.call(read_lists, block, images, shard, self._lists)
        if self._earlier is not None:
            lists = self._update(lists, query, length)
        short = runner.fetch(runner.call(_find_short, lists, needed))
        if len(short):
            found = self._search(self._gallery, runner.call(_take_rows, query, short), length)
            lists = runner.call(replace_lists, lists, short, found)
        self.num_searched += len(short)
        self._files.append(runner.fetch(runner.call(write_lists, block, images, lists)))
        return runner.call(_first_columns, lists, needed)

    def ranking(self) -> KeptRanking:
        """Return the ranking to keep, once all blocks are searched."""
        return KeptRanking(
            *self._folders, self._metric, _version(), self._gallery_size, tuple(self._files)
        )

    def _update(self, lists: Shared, query: Shared, length: int) -> Shared:
        """Return lists of the gallery of this run, made from those of the earlier run."""
        assert self._earlier is not None
        runner, new = self._runner, [each for each in self._matched if each.num_new]
        runs = split_parts(runner, self._matched)
        positions = runner.collect(find_positions, runs, self._images, lists, merge=Positions.join)
        found = self._search(new, query, length) if new else runner.share(None)
        size = self._earlier.gallery_size
        return runner.call(merge_lists, lists, positions, found, size, length)

    def _search(self, parts: Sequence[Part], query: Shared, length: int) -> Shared:
        """Return the `Neighbours` of queries among some images of the gallery."""
        settings = SearchSettings(length, self._metric, self._device)
        return search_images(self._runner, self._images, parts, query, settings)


def _choose(
    rankings: Sequence[RankingPart], folders: tuple[str, str], metric: str, store: str
) -> KeptRanking | None:
    """Return the newest ranking of two folders, if this run can use it."""
    found = [each for each in rankings if each.may_be_of(*folders)]
    if not found:
        return None
    newest = found[-1]
    if not newest.is_whole:
        log.warning(
            "%s: files of the last ranking, which %s lists, are missing or damaged; all queries "
            "are searched again",
            store,
            newest.part.path,
        )
        return None
    is_usable = (newest.ranking.metric, newest.ranking.version) == (metric, _version())
    return newest.ranking if is_usable else None


def _version() -> str:
    return version("reidray")


def _find_short(lists: Neighbours, needed: int) -> NDArray[np.int64]:
    """Return the indices of the queries whose list has too few images."""
    return np.flatnonzero(count_images(lists) < needed)


def _take_rows(query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return query[rows]


def _first_columns(lists: Neighbours, count: int) -> Neighbours:
    return Neighbours(lists.keys[:, :count].copy(), lists.indices[:, :count].copy())
