"""Find the nearest gallery images of each query exactly, without a whole distance matrix."""

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
    check_distance,
    check_features,
)
from reidray.retrieval.distances import DISTANCE_METRICS, DistanceMetric, build_distance_metric
from reidray.retrieval.numerics import full_precision
from reidray.retrieval.search_algorithms.block_search import search_blocks
from reidray.retrieval.search_algorithms.candidate_search import search_candidates


@overload
def top_k(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
@overload
def top_k(
    query: Tensor,
    gallery: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[Tensor, Tensor]: ...
def top_k(
    query: Array,
    gallery: Array,
    k: int,
    *,
    metric: str = "euclidean",
    max_distance: float | None = None,
    memory_mb: float = 512,
) -> tuple[Array, Array]:
    """Return the k nearest gallery images of each query, nearest first.

    The search is exact: float64 distances decide the order, and the lower gallery index comes first
    where they are equal. Every block size, number of threads and machine gives the same result.

    >>> import numpy as np
    >>> query = np.array([[0.0, 0.0]], np.float32)
    >>> gallery = np.array([[3, 4], [0, 1], [1, 0]], np.float32)
    >>> distances, indices = top_k(query, gallery, k=3)
    >>> distances.tolist(), indices.tolist()  # 1 and 2 are equally near
    ([[1.0, 1.0, 5.0]], [[1, 2, 0]])
    >>> top_k(query, gallery, k=3, max_distance=2)[1].tolist()
    [[1, 2, -1]]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: Number of images; all G where it exceeds G.
        metric: "euclidean", "cosine" or "l1".
        max_distance: Largest distance of an image; infinity and the index -1 replace images beyond
            it. `reidray.metrics.evaluate_open_set` finds a suitable one.
        memory_mb: Working memory in megabytes, beyond inputs and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64, of the library and on
        the device of the inputs.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_at_least("memory_mb", memory_mb, 1)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_distance("max_distance", max_distance)
    queries, images, scale = check_features(query, gallery)
    chosen = build_distance_metric(metric, scale)
    with full_precision(queries.device):
        keys, indices = nearest(queries, images, min(k, len(images)), chosen, memory_mb)
        distances = chosen.distance(keys)
        if max_distance is not None:
            distances, indices = without_farther(distances, indices, max_distance)
        distances = distances.float()
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


def without_farther(
    distances: Tensor, indices: Tensor, max_distance: float
) -> tuple[Tensor, Tensor]:
    """Return distances and indices (Q, k) with infinity and -1 in place of those beyond."""
    far = distances > max_distance
    return distances.masked_fill(far, torch.inf), indices.masked_fill(far, -1)


def nearest(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    memory_mb: float,
    *,
    farthest: Tensor | None = None,
    limit: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the keys and indices of the k nearest gallery images, nearest first.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        k: Number of images, at most G.
        metric: Distance between features.
        memory_mb: Working memory in megabytes.
        farthest: (Q,) float32; raised to the largest fast key of each query, without its
            `DistanceMetric.offset`.
        limit: (Q,) float64 exact keys. Images with larger keys may be left out, which a CPU does:
            it then looks at few of them.

    Returns:
        Exact keys (Q, k) float64 and gallery indices (Q, k) int64; infinity and -1 where an image
        is left out.
    """
    if query.is_cpu:
        return search_blocks(query, gallery, k, metric, memory_mb, farthest, limit)
    return search_candidates(query, gallery, k, metric, memory_mb, farthest)
