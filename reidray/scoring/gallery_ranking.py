"""Rank the images of a gallery for each query, from the embeddings in a store."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reidray.config.scoring import ScoreConfig
from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.scoring.kept_rankings.incremental_search import IncrementalSearch
from reidray.scoring.kept_rankings.matched_images import ImageChanges
from reidray.scoring.stages.distractor_files import ScoredShard, score_gallery
from reidray.scoring.stages.gallery_neighbours import (
    GalleryNeighbours,
    NeighbourSettings,
    find_neighbours,
)
from reidray.scoring.stages.gallery_search import (
    SearchSettings,
    read_features_of,
    search_images,
)
from reidray.scoring.stages.located_images import LocatedShard
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.output_chunks import write_nearest, write_ranked
from reidray.scoring.stages.query_blocks import (
    QueryBlock,
    expand_block,
    queries_in_block,
    query_blocks,
    read_queries,
)
from reidray.scoring.stages.reranked_queries import RerankSettings, rerank_block
from reidray.scoring.store.kept_ranking import DamagedRankingError, KeptRanking
from reidray.scoring.store.part_storage import RankingPart

log = logging.getLogger("reidray")


@dataclass(frozen=True, eq=False)
class GalleryRanking:
    """Hold the results of a nightly run.

    Attributes:
        located: the shards of each role.
        blocks: the blocks of the queries, whose lines are in their working files.
        num_empty: number of queries without a gallery image.
        neighbours: the files of the votes on attributes and of the distances of the gallery; None
            where the run needs neither.
        scored: the distractor scores of the gallery; None where the run scores no distractors.
        kept: the ranking to keep in the store; None where the run keeps none.
        num_searched: number of queries that were compared with the whole gallery; None where the
            run keeps no ranking, so that all of them were.
        changes: what differs from the images of the run before, by role; None where the store keeps
            no usable ranking of it.
    """

    located: Mapping[str, Sequence[LocatedShard]]
    blocks: Sequence[QueryBlock]
    num_empty: int
    neighbours: GalleryNeighbours | None
    scored: Sequence[ScoredShard] | None
    kept: KeptRanking | None
    num_searched: int | None
    changes: Mapping[str, ImageChanges] | None = None

    @property
    def num_distractors(self) -> int:
        """Return the number of gallery images that are left out as distractors."""
        return sum(each.num_left_out for each in self.scored or ())

    @property
    def num_bad(self) -> int:
        """Return the number of images of all roles that do not decode."""
        return sum(shard.num_bad for shards in self.located.values() for shard in shards)


def rank_gallery(
    runner: TaskRunner,
    images: NightlyImages,
    located: Mapping[str, Sequence[LocatedShard]],
    config: ScoreConfig,
    metric: str,
    rankings: Sequence[RankingPart] | None,
    *,
    device: str = "cpu",
) -> GalleryRanking:
    """Rank the gallery for each query, and write the lines of the ranking into working files.

    A query of a ranking that the store keeps is compared with new images only. Expanded queries
    and a gallery with scored distractors are searched in full, and such a ranking is not kept.

    Each task reads the embeddings of the gallery one shard at a time.

    Args:
        runner: runs the tasks.
        images: the images of the run.
        located: the shards of the roles `query` and `gallery`.
        config: `top_k`, `max_distance`, `rerank`, `expand`, `distractor_scores`,
            `max_distractor_score` and `attribute_neighbours` apply.
        metric: distance between embeddings.
        rankings: the rankings that the store keeps; None where it keeps none.
        device: device that searches, `cpu` or `cuda`; the ranking does not depend on it.

    Raises:
        UserError: `max_distractor_score` leaves out the whole gallery.
    """
    shared, gallery = runner.share(images), located["gallery"]
    neighbours, scored = None, None
    if config.scores_distractors or config.attribute_neighbours > 1:
        wanted = NeighbourSettings(
            config.scores_distractors, config.attribute_neighbours, metric, device
        )
        neighbours = find_neighbours(runner, shared, located, wanted)
        if config.scores_distractors:
            scored = score_gallery(runner, shared, gallery, neighbours, config.max_distractor_score)
    num_candidates, size = max(config.rerank, config.expand), images.contents.shape.embedding_size
    blocks = query_blocks(located["query"], queries_in_block(num_candidates, size))
    ranking = _Ranking(
        runner,
        shared,
        gallery if scored is None else [each.ranked for each in scored],
        config,
        metric,
        device,
        sum(shard.num_decoded for shard in gallery)
        - sum(each.num_left_out for each in scored or ()),
    )
    if config.expand:
        blocks = [ranking.expand(block) for block in blocks]
    if rankings is None or scored is not None or config.expand:
        num_empty = ranking.write_all(blocks)
        return GalleryRanking(located, blocks, num_empty, neighbours, scored, None, None)

    def begin(earlier: Sequence[RankingPart]) -> IncrementalSearch:
        return IncrementalSearch(runner, images, located, earlier, metric, device)

    try:
        incremental = begin(rankings)
        num_empty = replace(ranking, incremental=incremental).write_all(blocks)
    except DamagedRankingError as error:
        log.warning("%s; all queries are searched again", error)
        incremental = begin(())
        num_empty = replace(ranking, incremental=incremental).write_all(blocks)
    return GalleryRanking(
        located,
        blocks,
        num_empty,
        neighbours,
        scored,
        incremental.ranking(),
        incremental.num_searched,
        incremental.changes,
    )


@dataclass(frozen=True)
class _Ranking:
    """Rank the gallery for blocks of queries.

    Attributes:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        gallery: the shards of the gallery, without the images that are not ranked.
        config: `top_k`, `max_distance`, `rerank` and `expand` apply.
        metric: distance between embeddings.
        device: device that searches.
        gallery_size: number of images that are ranked.
        incremental: searches by the ranking that the store keeps; None to search in full.
    """

    runner: TaskRunner
    images: Shared
    gallery: Sequence[LocatedShard]
    config: ScoreConfig
    metric: str
    device: str
    gallery_size: int
    incremental: IncrementalSearch | None = None

    def write_all(self, blocks: Sequence[QueryBlock]) -> int:
        """Write the lines of all blocks; return the number of queries without an image."""
        return sum(self.runner.fetch(self.write(block, blocks)) for block in blocks)

    def expand(self, block: QueryBlock) -> QueryBlock:
        """Return a block of queries that are moved towards their nearest gallery images."""
        query = read_queries(self.runner, self.images, block)
        nearest = self._search(query, self.config.expand, "cosine")
        features = read_features_of(self.runner, self.images, self.gallery, nearest)
        return expand_block(self.runner, self.images, block, query, nearest, features)

    def write(self, block: QueryBlock, blocks: Sequence[QueryBlock]) -> Shared:
        """Write the lines of a block; return the number of its queries without an image."""
        config, runner = self.config, self.runner
        query = read_queries(runner, self.images, block)
        if not config.rerank:
            nearest = self._search_block(block, query, config.top_k)
            limits = (self.metric, config.max_distance)
            return runner.call(write_nearest, block, self.images, self.gallery, nearest, *limits)
        nearest = self._search_block(block, query, config.rerank)
        settings = SearchSettings(config.rerank + 1, self.metric, self.device)
        others = search_images(runner, self.images, blocks, query, settings)
        best = rerank_block(
            runner,
            self.images,
            blocks,
            block,
            nearest,
            others,
            read_features_of(runner, self.images, self.gallery, nearest),
            RerankSettings(
                config.rerank, self.gallery_size, config.top_k, self.metric, config.max_distance
            ),
        )
        return runner.call(write_ranked, block, self.images, self.gallery, best)

    def _search_block(self, block: QueryBlock, query: Shared, k: int) -> Shared:
        """Return the `Neighbours` of the queries of a block in the gallery."""
        if self.incremental is None:
            return self._search(query, k, self.metric)
        return self.incremental.search(block, query, k)

    def _search(self, query: Shared, k: int, metric: str) -> Shared:
        """Return the `Neighbours` of queries in the gallery."""
        settings = SearchSettings(k, metric, self.device)
        return search_images(self.runner, self.images, self.gallery, query, settings)
