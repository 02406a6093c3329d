"""Find the images nearest to each image of the gallery, and write what they say about it.

Their distances give distractor scores, and they vote on attributes. A task searches for a block of
images, one shard of the gallery after the other, and writes a working file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.inference.distributed.task_runner import Shared, TaskRunner
from reidray.metrics.distractor_scores import NEIGHBOURS, mean_to_others
from reidray.retrieval.knn import count_votes
from reidray.retrieval.neighbours import Neighbours
from reidray.scoring.stages.gallery_search import (
    SearchSettings,
    count_calls,
    iter_rows_among,
    search_parts,
)
from reidray.scoring.stages.located_images import LocatedShard, read_predictions_of
from reidray.scoring.stages.nightly_images import NightlyImages
from reidray.scoring.stages.query_blocks import QueryBlock, queries_in_block, query_blocks

NUMBERS_PER_NEIGHBOUR = 16
"""Memory for a neighbour while its labels are counted, in numbers of four bytes."""


@dataclass(frozen=True)
class NeighbourSettings:
    """Hold what is computed from the neighbours of an image.

    Attributes:
        scores_distractors: whether the distances to the nearest other images are.
        num_voters: number of images that vote on the attributes; 1 for no vote.
        metric: distance between embeddings.
        device: device that searches, `cpu` or `cuda`; the result does not depend on it.
    """

    scores_distractors: bool
    num_voters: int
    metric: str
    device: str

    @property
    def count(self) -> int:
        """Return the number of neighbours to find, the image itself among them."""
        return max(NEIGHBOURS + 1 if self.scores_distractors else 1, self.num_voters)

    def search(self, count: int) -> SearchSettings:
        """Return the settings of a search for a number of images."""
        return SearchSettings(count, self.metric, self.device)


@dataclass(frozen=True)
class GalleryNeighbours:
    """Name the working files of what the neighbours say about the images that decode.

    Attributes:
        blocks: the images that a file is about, in the order of the listing.
        all_have_doubt: whether the attributes of each image have an uncertainty.
    """

    blocks: tuple[QueryBlock, ...]
    all_have_doubt: bool

    def read_scores(self, images: NightlyImages, located: LocatedShard) -> pa.Table:
        """Return `distance` and `doubt`, both float32, for the images of a shard that decode."""
        return self._read(images, located, ["distance", "doubt"])

    def read_votes(self, images: NightlyImages, located: LocatedShard) -> NDArray[np.int8]:
        """Return the labels (M, A) that were voted for the images of a shard that decode."""
        column = self._read(images, located, ["labels"])["labels"]
        labels = column.combine_chunks().flatten().to_numpy()
        return np.asarray(labels.reshape(len(column), column.type.list_size))

    def _read(
        self, images: NightlyImages, located: LocatedShard, columns: Sequence[str]
    ) -> pa.Table:
        blocks = [block for block in self.blocks if block.located.shard == located.shard]
        return pa.concat_tables([images.read_table(_file(block), columns) for block in blocks])


def find_neighbours(
    runner: TaskRunner,
    images: Shared,
    located: Mapping[str, Sequence[LocatedShard]],
    settings: NeighbourSettings,
) -> GalleryNeighbours:
    """Search the gallery for each of its images, and write the working files.

    Args:
        runner: runs the tasks, one for each block of the gallery.
        images: the `NightlyImages`, shared.
        located: the shards of the roles `query` and `gallery`.
        settings: what the files hold.
    """
    gallery = located["gallery"]
    num_images = sum(shard.num_images for shard in gallery)
    size = queries_in_block(settings.count, NUMBERS_PER_NEIGHBOUR)
    blocks = query_blocks(gallery, min(size, -(-num_images // count_calls(runner))))
    shards = [runner.share(tuple(located[role])) for role in ("query", "gallery")]
    on_gpu = settings.device == "cuda"
    searches = [
        runner.call(_search_block, block, images, *shards, settings, on_gpu=on_gpu)
        for block in blocks
    ]
    have_doubt = [runner.fetch(search) for search in searches]
    return GalleryNeighbours(tuple(blocks), all(have_doubt))


def _search_block(
    block: QueryBlock,
    images: NightlyImages,
    queries: Sequence[LocatedShard],
    gallery: Sequence[LocatedShard],
    settings: NeighbourSettings,
) -> bool:
    """Write the working file of a block; return whether each image has an uncertainty."""
    rows, features = block.read_rows(images), block.read_features(images)
    nearest = search_parts(gallery, images, features, settings.search(settings.count))
    columns: dict[str, NDArray[np.generic] | pa.Array] = {}
    has_doubt = False
    if settings.scores_distractors:
        to_queries = search_parts(queries, images, features, settings.search(NEIGHBOURS))
        doubt = read_predictions_of(images, rows, ["doubt"]).uncertainty
        has_doubt = not np.isnan(doubt).any()
        distance = _mean_distance(rows.positions, nearest, to_queries, settings.metric)
        columns |= {"distance": distance, "doubt": doubt}
    if settings.num_voters > 1:
        labels = _vote(images, gallery, nearest.first(settings.num_voters))
        columns["labels"] = pa.FixedSizeListArray.from_arrays(labels.ravel(), labels.shape[1])
    images.write_table(_file(block), pa.table(columns))
    return has_doubt


def _mean_distance(
    positions: NDArray[np.int64], nearest: Neighbours, to_queries: Neighbours, metric: str
) -> NDArray[np.float32]:
    """Return the mean distance of images to their nearest other images (see `mean_to_others`)."""
    if not len(positions):
        return np.zeros(0, np.float32)
    in_gallery, indices = nearest.first(NEIGHBOURS + 1).to_distances(metric)
    itself = indices == positions[:, None]
    return mean_to_others(in_gallery, itself, to_queries.to_distances(metric)[0])


def _vote(
    images: NightlyImages, gallery: Sequence[LocatedShard], nearest: Neighbours
) -> NDArray[np.int8]:
    """Return the labels (M, A) that the most of the neighbours of M images have."""
    among = list(iter_rows_among(gallery, images, nearest))
    found = [read_predictions_of(images, rows, ["codes"]).attribute_labels for rows in among]
    positions = np.concatenate([rows.positions for rows in among])
    voters = np.searchsorted(positions, nearest.indices)
    return count_votes(np.concatenate(found), voters).astype(np.int8)


def _file(block: QueryBlock) -> str:
    return f"neighbours/{block.name}.parquet"
