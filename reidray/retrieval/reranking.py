"""Re-rank a gallery by k-reciprocal neighbours (Zhong et al. 2017), without a dense matrix.

Two images are similar where their neighbourhoods overlap. Neighbourhoods are sparse rows, and only
one block of the original distances exists at a time.
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
    check_at_least,
    check_choice,
    check_count,
    check_features,
)
from reidray.retrieval.distance_blocks import DistanceBlocks
from reidray.retrieval.distances import DISTANCE_METRICS, DistanceMetric, build_distance_metric
from reidray.retrieval.exact_search import nearest
from reidray.retrieval.neighbourhoods.jaccard_distances import JaccardDistances
from reidray.retrieval.neighbourhoods.padded_rows import padded_neighbourhoods
from reidray.retrieval.neighbourhoods.sparse_rows import sparse_neighbourhoods
from reidray.retrieval.numerics import full_precision


@dataclass(frozen=True)
class Reranking:
    """Hold the parameters of re-ranking (see `rerank`).

    Attributes:
        k1: Number of images in a neighbourhood.
        k2: Number of neighbours whose neighbourhoods are averaged, the image itself included; 1
            averages none.
        lambda_value: Weight of the original distance, 0 to 1; the Jaccard distance has the rest.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        check_count("k1", self.k1)
        check_count("k2", self.k2)
        if self.k2 > self.k1:
            raise ValueError(f"`k2` is {self.k2}: expected at most `k1`, {self.k1}")
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"`lambda_value` is {self.lambda_value}: expected 0 to 1")

    def __str__(self) -> str:
        """Return the parameters as a line of a report names them."""
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
    """Return the k best gallery images of each query after k-reciprocal re-ranking.

    The re-ranked distance (Zhong et al. 2017, "Re-ranking Person Re-identification with
    k-reciprocal Encoding") is

        d*(q, g) = lambda d(q, g)^2 / max_j d(q, j)^2 + (1 - lambda) J(q, g)
        J(q, g)  = 1 - sum_j min(V_q,j, V_g,j) / sum_j max(V_q,j, V_g,j)

    where V_i is the neighbourhood of image i: exp(-d(i, j)^2 / max_j d(i, j)^2) for the images j in
    its expanded k1-reciprocal neighbours, divided by its sum, and then averaged over the k2 nearest
    images of i.

    The whole gallery takes part in the neighbourhoods: leave out junk images before the call.
    `reidray.metrics.evaluate(..., reranking=Reranking(...))` computes metrics of the new ranking.

    >>> import numpy as np
    >>> gallery = np.array([[-5], [-8], [-9], [7]], np.float32)
    >>> query = np.zeros((1, 1), np.float32)
    >>> rerank(query, gallery, k=2, k1=2, k2=1)[1].tolist()  # -5 is nearer, but in a cluster
    [[3, 0]]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: Number of images; all G where it exceeds G.
        k1: Number of images in a neighbourhood.
        k2: Number of neighbours whose neighbourhoods are averaged, the image itself included.
        lambda_value: Weight of the original distance, 0 to 1.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes, beyond inputs, result and neighbourhoods.

    Returns:
        Re-ranked distances (Q, k) float32, best first, and indices into the gallery (Q, k) int64;
        the lower index first where distances are equal; of the library and on the device of the
        inputs.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    settings = Reranking(k1, k2, lambda_value)
    queries, images, scale = check_features(query, gallery)
    with full_precision(queries.device):
        blocks = RerankedDistances(
            queries, images, build_distance_metric(metric, scale), settings, memory_mb
        )
        parts = [
            _smallest(blocks.keys(rows), min(k, len(images))) for rows in blocks.query_blocks()
        ]
    distances, indices = (torch.cat(part) for part in zip(*parts, strict=True))
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


def _smallest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest of each row (B, G), float32, and their columns, in order.

    The lower column wins a tie.
    """
    limit = distances.topk(k, dim=1, largest=False, sorted=False).values.amax(dim=1, keepdim=True)
    below, tied = distances < limit, distances == limit
    missing = k - below.sum(dim=1, keepdim=True)
    chosen = below | (tied & (tied.cumsum(dim=1) <= missing))
    candidates = distances.where(chosen, torch.inf)
    columns = candidates.topk(k, dim=1, largest=False, sorted=False).indices.sort(dim=1).values
    values, order = distances.gather(1, columns).sort(dim=1, stable=True)
    return values.float(), columns.gather(1, order)


class RerankedDistances:
    """Compute the re-ranked distances of all pairs of a query and a gallery image, by blocks.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        metric: Distance between features.
        settings: Parameters of the re-ranking.
        memory_mb: Working memory in megabytes, beyond the features and the neighbourhoods.

    Raises:
        ValueError: There are no more than `k1` images.
    """

    def __init__(
        self,
        query: Tensor,
        gallery: Tensor,
        metric: DistanceMetric,
        settings: Reranking,
        memory_mb: float,
    ) -> None:
        images, k1 = len(query) + len(gallery), settings.k1
        if k1 >= images:
            raise ValueError(
                f"`k1` is {k1}: expected fewer than the {images} images of query and gallery"
            )
        self._original = DistanceBlocks(query, gallery, metric, memory_mb)
        self._metric, self._lambda = metric, settings.lambda_value
        joint = torch.cat([query, gallery])
        largest = torch.full((images,), -torch.inf, device=joint.device)
        _, found = nearest(joint, joint, k1 + 1, metric, memory_mb, farthest=largest)
        offset = metric.offset(joint)
        self._offset = offset[: len(query)]
        farthest = self._squares(largest + offset)
        # If all images are equal, the farthest is at distance 0: avoid a division by it.
        self._farthest = farthest.masked_fill(farthest == 0, 1)

        def relative_distances(rows: Tensor, columns: Tensor) -> Tensor:
            squares = self._squares(metric.exact(joint, joint, rows, columns))
            return squares / self._farthest[rows]

        if joint.is_cpu:
            neighbourhoods = sparse_neighbourhoods(found, k1, settings.k2, relative_distances)
        else:
            neighbourhoods = padded_neighbourhoods(
                found, k1, settings.k2, relative_distances, memory_mb
            )
        self._jaccard = JaccardDistances(
            neighbourhoods,
            len(query),
            len(gallery),
            memory_mb,
            fixed_point=not joint.is_cpu,
        )

    def query_blocks(self) -> Iterator[slice]:
        """Yield ranges of queries whose distances fit in the working memory together."""
        return self._original.query_blocks()

    def keys(self, queries: slice) -> Tensor:
        """Return the re-ranked distances (B, G) float64 of a range of B queries."""
        keys, _ = self._original.keys(queries, torch.float32)
        distances = self._squares(keys + self._offset[queries, None])
        distances *= (self._lambda / self._farthest[queries])[:, None]
        distances += (1 - self._lambda) * self._jaccard.of(queries)
        return distances

    def _squares(self, keys: Tensor) -> Tensor:
        """Return the squared distances that keys stand for."""
        return self._metric.distance(keys.clamp(min=0)).square()
