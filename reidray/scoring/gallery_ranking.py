"""Rank the images of a gallery for each query, from the embeddings in a store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import ScoreConfig
from reidray.inference.predictions import Predictions
from reidray.retrieval.knn import vote_attributes
from reidray.retrieval.partitioned_search import top_k_from_parts
from reidray.scoring.gallery_distractors import GalleryFilter, filter_distractors
from reidray.scoring.incremental_update import StoredImages
from reidray.scoring.store.embedding_store import EmbeddingStore


@dataclass(frozen=True, eq=False)
class GalleryRanking:
    """Hold the results of a nightly run.

    Attributes:
        ranking: path of each query to the paths of its nearest gallery images, best first; empty
            for a query that does not decode.
        attribute_labels: (M, A) int64, of the M gallery images that decode.
        filtered: the distractor scores of these M images, and which of them are ranked; None
            where the run scores no distractors.
    """

    ranking: Mapping[str, Sequence[str]]
    attribute_labels: NDArray[np.int64]
    filtered: GalleryFilter | None

    @property
    def num_distractors(self) -> int:
        """Return the number of gallery images that are left out as distractors."""
        return 0 if self.filtered is None else int((~self.filtered.keep).sum())

    @property
    def num_empty(self) -> int:
        """Return the number of queries without a gallery image."""
        return sum(not paths for paths in self.ranking.values())


def rank_gallery(
    queries: StoredImages,
    gallery: StoredImages,
    store: EmbeddingStore,
    config: ScoreConfig,
    metric: str,
    *,
    device: str = "cpu",
) -> GalleryRanking:
    """Return each query's nearest gallery images, and the attributes of the gallery.

    The embeddings of the gallery are read one part of the store at a time. Only distractor scores
    and votes on attributes need all of them at once.

    Args:
        queries: the queries.
        gallery: the gallery.
        store: has the embeddings of both.
        config: `top_k`, `max_distance`, `distractor_scores`, `max_distractor_score` and
            `attribute_neighbours` apply.
        metric: distance between embeddings.
        device: device that searches, `cpu` or `cuda`; the ranking does not depend on it.

    Raises:
        UserError: `max_distractor_score` leaves out the whole gallery.
    """
    query = _read_all(queries, store)
    parts, filtered = store.read_rows(gallery.rows), None
    scores_distractors = config.distractor_scores or config.max_distractor_score is not None
    if scores_distractors or config.attribute_neighbours > 1:
        whole = _read_all(gallery, store)
        if scores_distractors:
            filtered = filter_distractors(
                query, whole, metric, config.max_distractor_score, device=device
            )
        if config.attribute_neighbours > 1:
            voted = vote_attributes(
                whole.embeddings,
                whole.attribute_labels,
                k=config.attribute_neighbours,
                metric=metric,
                device=device,
            )
            whole = replace(whole, attribute_labels=voted)
        parts = iter([(np.arange(len(whole)), whole)])
    labels = np.empty((len(gallery.rows), store.shape.num_attributes), dtype=np.int64)

    def embeddings_by_part() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for positions, predictions in parts:
            labels[positions] = predictions.attribute_labels
            keep = slice(None) if filtered is None else filtered.keep[positions]
            yield positions[keep], predictions.embeddings[keep]

    _, nearest = top_k_from_parts(
        query.embeddings,
        embeddings_by_part(),
        config.top_k,
        metric=metric,
        max_distance=config.max_distance,
        device=device,
    )
    gallery_paths = gallery.paths
    ranking: dict[str, list[str]] = {path: [] for path in queries.images.paths}
    for path, positions in zip(queries.paths, nearest, strict=True):
        # -1 stands for images that are farther than `max_distance`.
        ranking[path] = [gallery_paths[position] for position in positions[positions >= 0]]
    return GalleryRanking(ranking, labels, filtered)


def _read_all(images: StoredImages, store: EmbeddingStore) -> Predictions:
    """Return the predictions for all images that decode."""
    predictions = store.shape.empty(len(images.rows))
    for positions, part in store.read_rows(images.rows):
        predictions.assign(positions, part)
    return predictions
