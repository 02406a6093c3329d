"""Re-rank the candidates of queries, each among its joint set (see `joint_sets`)."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.array_inputs import (
    Integers,
    check_at_least,
    check_choice,
    check_count,
    check_distance,
    check_features,
)
from reidray.retrieval.candidate_reranking.joint_sets import JointSets
from reidray.retrieval.candidate_reranking.set_neighbours import find_set_neighbours
from reidray.retrieval.distances import DISTANCE_METRICS, DistanceMetric, build_distance_metric
from reidray.retrieval.neighbourhoods.sparse_rows import sparse_neighbourhoods
from reidray.retrieval.numerics import full_precision, single_thread
from reidray.retrieval.reranking import Reranking

MAX_ROWS = 1 << 14
"""Images of sets whose neighbourhoods are found together, in a few sparse matrices."""
BYTES_PER_NEIGHBOUR = 400
"""Memory for one of the k1 neighbours of an image, with what its expansion and mean add."""


def rerank_candidates(
    sets: JointSets,
    query_features: NDArray[np.generic],
    gallery_features: NDArray[np.generic],
    k: int,
    *,
    settings: Reranking,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], Integers]:
    """Return the k best candidates of each query after k-reciprocal re-ranking.

    The re-ranked distance of a candidate is that of `retrieval.rerank`, computed with the joint set
    of its query in place of all queries and the whole gallery. Where the joint set holds all of
    these, the result is the same: exactly for features of small whole numbers, and else up to the
    rounding of float32 in `rerank` (about 1e-6). Exact float64 distances decide everything here, so
    the result has the same bits for any block of queries and any number of workers.

    A joint set of `k1` images or fewer uses as many neighbours as it has. The work is done on one
    thread of a CPU: blocks of queries can be re-ranked beside each other.

    >>> from reidray.retrieval.candidate_reranking import joint_sets
    >>> from reidray.retrieval.neighbours import Neighbours
    >>> candidates = Neighbours(np.array([[25.0, 49, 64, 81]]), np.array([[0, 3, 1, 2]]))
    >>> alone = Neighbours(np.array([[0.0]]), np.array([[0]]))
    >>> sets = joint_sets(np.array([0]), candidates, alone, count=4, gallery_size=4)
    >>> gallery = np.array([[-5], [-8], [-9], [7]], np.float32)
    >>> query = np.zeros((1, 1), np.float32)
    >>> settings = Reranking(k1=2, k2=1)
    >>> rerank_candidates(sets, query, gallery[sets.gallery], 2, settings=settings)[1].tolist()
    [[3, 0]]

    Args:
        sets: Joint sets of B queries.
        query_features: (V, D) features of the queries `sets.queries`, of any real dtype.
        gallery_features: (U, D) features of the gallery images `sets.gallery`.
        k: Number of images; all candidates where it exceeds their number.
        settings: Parameters of the re-ranking.
        metric: "euclidean", "cosine" or "l1".
        max_distance: Largest original distance of an image in the result. Candidates beyond it take
            part in the neighbourhoods only.
        memory_mb: Working memory in megabytes, beyond inputs and result; that for one joint set is
            taken in any case.

    Returns:
        Re-ranked distances (B, k) float32, best first, and positions in the gallery (B, k) int64;
        the lower position first where distances are equal; infinity and -1 where there are fewer.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    sides = ("query_features", sets.queries), ("gallery_features", sets.gallery)
    for (name, positions), features in zip(sides, (query_features, gallery_features), strict=True):
        if len(features) != len(positions):
            raise ValueError(
                f"`{name}` has {len(features)} rows: expected those of {len(positions)} images"
            )
    query, gallery, scale = check_features(query_features, gallery_features)
    work = _CandidateReranking(
        sets,
        query.float(),
        gallery.float(),
        build_distance_metric(metric, scale),
        settings,
        np.inf if max_distance is None else max_distance,
        int(memory_mb * 2**20 / 2),
    )
    with single_thread(), full_precision(query.device):
        return work.best(k)


class _CandidateReranking:
    """Hold the joint sets of a block of queries and their features.

    Args:
        sets: Joint sets of B queries.
        query: (V, D) float32.
        gallery: (U, D) float32.
        metric: Distance between features.
        settings: Parameters of the re-ranking.
        max_distance: Largest original distance of a result.
        budget: Working memory in bytes.
    """

    def __init__(
        self,
        sets: JointSets,
        query: Tensor,
        gallery: Tensor,
        metric: DistanceMetric,
        settings: Reranking,
        max_distance: float,
        budget: int,
    ) -> None:
        self._sets = sets
        self._query = query
        self._gallery = gallery
        self._metric = metric
        self._settings = settings
        self._max_distance = max_distance
        self._budget = budget

    def best(self, k: int) -> tuple[NDArray[np.float32], Integers]:
        """Return the re-ranked distances (B, k) and gallery positions of the best candidates."""
        is_gallery = self._sets.members >= len(self._query)
        ends = np.concatenate([np.zeros(1, np.int64), is_gallery.cumsum()])[self._sets.starts]
        k = min(k, int(np.diff(ends).max(initial=0)))
        distances = np.full((len(self._sets), k), np.inf, np.float32)
        positions = np.full((len(self._sets), k), -1, np.int64)
        for chosen in self._chunks():
            numbers, images, found = self._rerank(chosen)
            order = np.lexsort((images, found, numbers))
            numbers, images, found = numbers[order], images[order], found[order]
            rank = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
            kept = rank < k
            place = chosen[numbers[kept]], rank[kept]
            distances[place] = found[kept]
            positions[place] = self._sets.gallery[images[kept]]
        return distances, positions

    def _chunks(self) -> Iterator[Integers]:
        """Yield the numbers of sets to re-rank together: they have as many neighbours."""
        bytes_per_row = 8 * self._query.shape[1] + BYTES_PER_NEIGHBOUR * self._settings.k1
        rows = max(1, min(MAX_ROWS, self._budget // bytes_per_row))
        widths = np.minimum(self._sets.sizes, self._settings.k1 + 1)
        for width in np.unique(widths):
            numbers = np.flatnonzero(widths == width)
            chunk = (self._sets.sizes[numbers].cumsum() - 1) // rows
            yield from np.split(numbers, np.flatnonzero(np.diff(chunk)) + 1)

    def _rerank(self, chosen: Integers) -> tuple[Integers, Integers, NDArray[np.float64]]:
        """Re-rank the candidates of some queries.

        Args:
            chosen: (C,) numbers of the sets.

        Returns:
            For each of the P candidates within `max_distance`: the query it belongs to, (P,) int64
            from 0 to C - 1, its row in the gallery features, and its re-ranked distance.
        """
        starts, sizes = self._sets.starts[chosen], self._sets.sizes[chosen]
        tops = sizes.cumsum() - sizes
        number = np.repeat(np.arange(len(chosen)), sizes)
        members = self._sets.members[np.arange(len(number)) + (starts - tops)[number]]
        own = self._sets.own[chosen] - starts + tops
        features = self._features(members)
        nearest, farthest = self._neighbours(features, tops, sizes)

        def relative_distances(rows: Tensor, columns: Tensor) -> Tensor:
            return (
                self._squares(_exact_pairs(self._metric, features, rows, columns)) / farthest[rows]
            )

        k1 = nearest.shape[1] - 1
        found = sparse_neighbourhoods(nearest, k1, min(self._settings.k2, k1), relative_distances)
        rows, images, weights = (each.numpy() for each in (found.rows, found.images, found.weights))
        # Sets share no image, so that one vector holds the neighbourhoods of all queries.
        of_query = np.zeros(len(members))
        is_own = np.zeros(len(members), dtype=bool)
        is_own[own] = True
        of_query[images[is_own[rows]]] = weights[is_own[rows]]
        overlap = np.bincount(rows, np.minimum(of_query[images], weights), len(members))

        candidates = np.flatnonzero(members >= len(self._query))
        query_rows = own[number[candidates]]
        keys = self._metric.exact(
            features, features, torch.from_numpy(query_rows), torch.from_numpy(candidates)
        )
        near = (self._metric.distance(keys) <= self._max_distance).numpy()
        factor = (self._settings.lambda_value / farthest).numpy()[query_rows]
        shared = overlap[candidates]
        distances = self._squares(keys).numpy() * factor
        distances += (1 - self._settings.lambda_value) * (1 - shared / (2 - shared))
        images = members[candidates] - len(self._query)
        return number[candidates][near], images[near], distances[near]

    def _features(self, members: Integers) -> Tensor:
        """Return the features (M, D) of members of the sets."""
        features = torch.empty(len(members), self._query.shape[1])
        rows = torch.from_numpy(members)
        is_query = rows < len(self._query)
        features[is_query] = self._query[rows[is_query]]
        features[~is_query] = self._gallery[rows[~is_query] - len(self._query)]
        return features

    def _neighbours(
        self, features: Tensor, tops: Integers, sizes: Integers
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest images within each set, and squared distances to the farthest.

        Args:
            features: (M, D) features of the sets, one after the other.
            tops: (C,) first row of each set.
            sizes: (C,) number of images of each set; larger than k1, or the same in all.

        Returns:
            Rows of the nearest images (M, k1 + 1) int64, or fewer in small sets, and distances (M,)
            float64.
        """
        width = min(self._settings.k1 + 1, int(sizes[0]))
        parts = []
        for top, size in zip(tops.tolist(), sizes.tolist(), strict=True):
            one = features[top : top + size]
            found = find_set_neighbours(one, width, self._metric, self._budget)
            parts.append((found.nearest + top, found.far_rows + top, found.far_columns + top))
        nearest, rows, columns = (torch.cat(part) for part in zip(*parts, strict=True))
        keys = torch.full((len(features),), -torch.inf, dtype=torch.float64)
        keys.scatter_reduce_(
            0, rows, _exact_pairs(self._metric, features, rows, columns), reduce="amax"
        )
        farthest = self._squares(keys)
        # If all images are equal, the farthest is at distance 0: avoid a division by it.
        return nearest, farthest.masked_fill(farthest == 0, 1)

    def _squares(self, keys: Tensor) -> Tensor:
        """Return the squared distances that exact keys stand for."""
        return self._metric.distance(keys.clamp(min=0)).square()


def _exact_pairs(metric: DistanceMetric, features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the exact keys of pairs of images, each computed once: order does not matter."""
    low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
    pairs, inverse = torch.unique(low * len(features) + high, return_inverse=True)
    exact = metric.exact(features, features, pairs // len(features), pairs % len(features))
    return exact[inverse]
