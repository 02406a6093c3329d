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
    QueryBlock,
    SearchSettings,
    query_blocks,
    read_queries,
    search_gallery,
)
from reidray.scoring.stages.located_images import (
    LocatedShard,
    read_predictions_of,
    read_rows_of,
)
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.output_chunks import write_ranking_block


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
        config: `top_k`, `max_distance`, `distractor_scores`, `max_distractor_score` and
            `attribute_neighbours` apply.
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
    blocks = query_blocks(located["query"])
    settings = SearchSettings(config.top_k, metric, device)
    shared, keep = runner.share(images), runner.share(keep)
    num_empty = sum(
        _rank_block(runner, shared, located["gallery"], block, settings, keep, config.max_distance)
        for block in blocks
    )
    return GalleryRanking(located, blocks, num_empty, voted, filtered)


def _rank_block(
    runner: TaskRunner,
    images: Shared,
    gallery: Sequence[LocatedShard],
    block: QueryBlock,
    settings: SearchSettings,
    keep: Shared,
    max_distance: float | None,
) -> int:
    """Write the lines of a block of queries, and return the number of queries without an image."""
    query = read_queries(runner, images, block)
    nearest = search_gallery(runner, images, gallery, query, settings, keep)
    write = runner.run(
        write_ranking_block, [block], images, gallery, nearest, settings.metric, max_distance
    )
    return sum(write)


def _read_all(
    images: NightlyImages, shards: Sequence[LocatedShard]
) -> tuple[NDArray[np.int64], Predictions]:
    """Return the positions and the predictions of all images of a role that decode."""
    rows = [read_rows_of(images, located) for located in shards]
    predictions = concatenate([read_predictions_of(images, each) for each in rows])
    return np.concatenate([each.positions for each in rows]), predictions
