"""Re-ranking by k-reciprocal neighbours (Zhong et al. 2017), without a dense matrix.

Two images are alike where their neighbourhoods overlap. Neighbourhoods and their overlaps are
sparse; of the original distances only a block at a time exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    check_at_least,
    check_choice,
    check_count,
    read_features,
)
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import DISTANCE_METRICS, Metric, build_distance_metric
from reidray.retrieval.exact_search import nearest
from reidray.retrieval.numerics import full_precision
from reidray.retrieval.reciprocal_neighbours import (
    mean_of_rows,
    normalised_rows,
    reciprocal_neighbours,
    row_indices,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reranking:
    """How to re-rank.

    Attributes:
        k1: images in a neighbourhood.
        k2: neighbours whose neighbourhoods are averaged into an image's own; 1 keeps its own.
        lambda_value: weight of the original distance, in 0..1; the rest is the Jaccard distance's.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        check_count("k1", self.k1)
        check_count("k2", self.k2)
        if self.k2 > self.k1:
            raise ValueError(f"k2 is {self.k2}: expected at most k1, {self.k1}")
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"lambda_value is {self.lambda_value}: expected 0 to 1")

    def __str__(self) -> str:
        """As it stands behind a figure."""
        return f"re-ranked with k1={self.k1}, k2={self.k2}, lambda={self.lambda_value}"


@overload
def rerank(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    k: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
@overload
def rerank(
    query: Tensor,
    gallery: Tensor,
    k: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[Tensor, Tensor]: ...
def rerank(
    query: Array,
    gallery: Array,
    k: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[Array, Array]:
    """The k best gallery images of each query after k-reciprocal re-ranking (Zhong et al. 2017).

    The whole gallery takes part in the neighbourhoods: leave out junk before. Figures of the new
    ranking come from `evaluate(..., reranking=Reranking(...))`.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: how many; more than G gives all G.
        k1: images in a neighbourhood.
        k2: neighbours whose neighbourhoods are averaged into an image's own.
        lambda_value: weight of the original distance, in 0..1.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: megabytes to work in, beyond inputs, result and sparse neighbourhoods.

    Returns:
        Re-ranked distances (Q, k) float32, best first, and indices into the gallery (Q, k) int64,
        equal ones by the lower index; of the library and on the device of the inputs.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    settings = Reranking(k1, k2, lambda_value)
    queries, images, scale = read_features(query, gallery)
    with full_precision(queries.device):
        source = RerankedKeys(
            queries, images, build_distance_metric(metric, scale), settings, memory_mb
        )
        parts = [_best(source.keys(rows), min(k, len(images))) for rows in source.blocks()]
    distances, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    if isinstance(query, Tensor):
        device = query.device
        return torch.from_numpy(distances).to(device), torch.from_numpy(indices).to(device)
    return distances, indices


def _best(rows: Floats, k: int) -> tuple[NDArray[np.float32], Integers]:
    """The k least of each row (B, G), equal ones by the lower column."""
    worst = np.partition(rows, k - 1, axis=1)[:, k - 1]
    indices = np.empty((len(rows), k), np.int64)
    for place, (row, limit) in enumerate(zip(rows, worst, strict=True)):
        candidates = np.flatnonzero(row <= limit)
        indices[place] = candidates[row[candidates].argsort(kind="stable")[:k]]
    return np.take_along_axis(rows, indices, axis=1).astype(np.float32), indices


class RerankedKeys:
    """Re-ranked distances of all pairs of a query and a gallery image, block by block."""

    def __init__(
        self,
        query: Tensor,
        gallery: Tensor,
        metric: Metric,
        settings: Reranking,
        memory_mb: float,
    ) -> None:
        images, k1 = len(query) + len(gallery), settings.k1
        if k1 >= images:
            raise ValueError(
                f"k1 is {k1}: expected fewer than the {images} images of query and gallery"
            )
        self._original = DistanceBlocks(query, gallery, metric, memory_mb)
        self._metric, self._lambda = metric, settings.lambda_value
        joint = torch.cat([query, gallery])
        largest = torch.full((images,), -torch.inf, device=joint.device)
        _, found = nearest(joint, joint, k1 + 1, metric, memory_mb, farthest=largest)
        neighbours = found.cpu().numpy()
        offset = metric.offset(joint)
        self._offset = offset[: len(query)].cpu()
        self._farthest = self._squares(largest + offset).cpu().numpy()
        # Where all images are the same there is no distance to be relative to.
        self._farthest[self._farthest == 0] = 1
        pattern = reciprocal_neighbours(neighbours, k1)
        weights = np.exp(-self._relative_distances(joint, row_indices(pattern), pattern.indices))
        own = normalised_rows(pattern, weights)
        self._neighbourhoods = mean_of_rows(own, neighbours[:, : settings.k2])
        self._by_column = self._neighbourhoods.tocsc()

    def blocks(self) -> Iterator[Integers]:
        """Indices of the queries whose distances fit the budget together."""
        return self._original.blocks()

    def keys(self, queries: Integers) -> Floats:
        """Distances (B, G) of these queries (B,)."""
        keys, _ = self._original.keys(queries, torch.float32)
        squared = self._squares(torch.from_numpy(keys) + self._offset[queries, None])
        distances = squared.numpy() * (self._lambda / self._farthest[queries, None])
        for row, query in zip(distances, queries.tolist(), strict=True):
            row += (1 - self._lambda) * self._jaccard(query)
        return np.asarray(distances)

    def _squares(self, keys: Tensor) -> Tensor:
        """The squared distances that keys stand for."""
        return self._metric.distance(keys.clamp(min=0)).square()

    def _relative_distances(self, joint: Tensor, rows: Integers, columns: Integers) -> Floats:
        """Squared distances (P,) of pairs, as shares of the row's farthest."""
        places = [torch.from_numpy(indices).to(joint.device) for indices in (rows, columns)]
        squared = self._squares(self._metric.exact(joint, joint, *places))
        return np.asarray(squared.cpu().numpy() / self._farthest[rows])

    def _jaccard(self, query: int) -> Floats:
        """(G,) Jaccard distances of a query to the gallery."""
        own = self._neighbourhoods[[query]]
        others = self._by_column[:, own.indices]
        shared = np.minimum(np.repeat(own.data, np.diff(others.indptr)), others.data)
        overlap = np.bincount(others.indices, weights=shared, minlength=others.shape[0])
        overlap = overlap[len(self._offset) :]
        return 1 - overlap / (2 - overlap)
