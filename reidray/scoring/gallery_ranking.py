"""Rank the images of a gallery for each query, from the embeddings in a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import ScoreConfig
from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.inference.predictions import Predictions, concatenate
from reidray.retrieval.knn import vote_attributes
from reidray.scoring.gallery_distractors import GalleryFilter, filter_distractors
from reidray.scoring.stages.gallery_search import (
    SearchSettings,
    read_features_of,
    search_images,
)
from reidray.scoring.stages.located_images import (
    LocatedShard,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.output_chunks import write_nearest, write_ranked
from reidray.scoring.stages.query_blocks import (
    QueryBlock,
    expand_block,
    query_blocks,
    read_queries,
)
from reidray.scoring.stages.reranked_queries import RerankSettings, rerank_block


@dataclass(frozen=True, eq=False)
class GalleryRanking:
    """Hold the results of a nightly run.

    Attributes:
        located: the shards of each role.
        blocks: the blocks of the queries, whose lines are in their working files.
        num_empty: number of queries without a gallery image.
        voted: (G, A) int64, labels of the attributes by the position of an image in the listing of
            the gallery; None where each image has its own.
        filtered: the distractor scores of the gallery images that decode, and which of them are
            ranked; None where the run scores no distractors.
    """

    located: Mapping[str, Sequence[LocatedShard]]
    blocks: Sequence[QueryBlock]
    num_empty: int
    voted: NDArray[np.int64] | None
    filtered: GalleryFilter | None

    @property
    def num_distractors(self) -> int:
        """Return the number of gallery images that are left out as distractors."""
        return 0 if self.filtered is None else int((~self.filtered.keep).sum())

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
    *,
    device: str = "cpu",
) -> GalleryRanking:
    """Rank the gallery for each query, and write the lines of the ranking into working files.

    The embeddings of the gallery are read one shard at a time. Only distractor scores and votes on
    attributes need all of them at once, in this process.

    Args:
        runner: runs the tasks.
        images: the images of the run.
        located: the shards of the roles `query` and `gallery`.
        config: `top_k`, `max_distance`, `rerank`, `expand`, `distractor_scores`,
            `max_distractor_score` and `attribute_neighbours` apply.
        metric: distance between embeddings.
        device: device that searches, `cpu` or `cuda`; the ranking does not depend on it.

    Raises:
        UserError: `max_distractor_score` leaves out the whole gallery.
    """
    filtered, voted, keep = None, None, None
    if config.scores_distractors or config.attribute_neighbours > 1:
        positions, whole = _read_all(images, located["gallery"])
        if config.scores_distractors:
            _, queries = _read_all(images, located["query"])
            filtered = filter_distractors(
                queries, whole, metric, config.max_distractor_score, device=device
            )
            keep = np.zeros(images.listings["gallery"].num_images, bool)
            keep[positions] = filtered.keep
        if config.attribute_neighbours > 1:
            voted = np.zeros(
                (images.listings["gallery"].num_images, whole.attribute_labels.shape[1]), np.int64
            )
            voted[positions] = vote_attributes(
                whole.embeddings,
                whole.attribute_labels,
                k=config.attribute_neighbours,
                metric=metric,
                device=device,
            )
    size = images.contents.shape.embedding_size
    blocks = query_blocks(located["query"], max(config.rerank, config.expand), size)
    ranking = _Ranking(
        runner,
        runner.share(images),
        located["gallery"],
        runner.share(keep),
        config,
        metric,
        device,
        sum(shard.num_decoded for shard in located["gallery"]) if keep is None else int(keep.sum()),
    )
    if config.expand:
        blocks = [ranking.expand(block) for block in blocks]
    num_empty = sum(runner.fetch(ranking.write(block, blocks)) for block in blocks)
    return GalleryRanking(located, blocks, num_empty, voted, filtered)


@dataclass(frozen=True)
class _Ranking:
    """Rank the gallery for blocks of queries.

    Attributes:
        runner: runs the tasks.
        images: the `NightlyImages`, shared.
        gallery: the shards of the gallery.
        keep: (G,) bool, whether each image of the listing is ranked; None for all; shared.
        config: `top_k`, `max_distance`, `rerank` and `expand` apply.
        metric: distance between embeddings.
        device: device that searches.
        gallery_size: number of images that are ranked.
    """

    runner: TaskRunner
    images: Shared
    gallery: Sequence[LocatedShard]
    keep: Shared
    config: ScoreConfig
    metric: str
    device: str
    gallery_size: int

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
            nearest = self._search(query, config.top_k, self.metric)
            limits = (self.metric, config.max_distance)
            return runner.call(write_nearest, block, self.images, self.gallery, nearest, *limits)
        nearest = self._search(query, config.rerank, self.metric)
        settings = SearchSettings(config.rerank + 1, self.metric, self.device)
        everybody = runner.share(None)
        others = search_images(runner, self.images, blocks, query, settings, everybody)
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

    def _search(self, query: Shared, k: int, metric: str) -> Shared:
        """Return the `Neighbours` of queries in the gallery."""
        settings = SearchSettings(k, metric, self.device)
        return search_images(self.runner, self.images, self.gallery, query, settings, self.keep)


def _read_all(
    images: NightlyImages, shards: Sequence[LocatedShard]
) -> tuple[NDArray[np.int64], Predictions]:
    """Return the positions and the predictions of all images of a role that decode."""
    rows = [read_rows_of(images, located) for located in shards]
    predictions = concatenate([read_predictions_of(images, each) for each in rows])
    return np.concatenate([each.positions for each in rows]), predictions
