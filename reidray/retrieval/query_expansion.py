"""Expand queries by the gallery images that they retrieve."""

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    check_at_least,
    check_count,
    check_features,
)
from reidray.retrieval.distances import DistanceMetric, build_distance_metric
from reidray.retrieval.exact_search import nearest
from reidray.retrieval.numerics import full_precision


@overload
def expand_queries(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    *,
    k: int = 5,
    alpha: float = 3.0,
    memory_mb: float = 512,
) -> NDArray[np.float32]: ...
@overload
def expand_queries(
    query: Tensor, gallery: Tensor, *, k: int = 5, alpha: float = 3.0, memory_mb: float = 512
) -> Tensor: ...
def expand_queries(
    query: Array, gallery: Array, *, k: int = 5, alpha: float = 3.0, memory_mb: float = 512
) -> Array:
    """Return queries that are moved towards their k nearest gallery images, for a second search.

    The expanded query is the direction of

        q + sum_{i = 1..k}  max(cos(q, g_i), 0)^alpha  g_i

    where g_1, ..., g_k are the nearest gallery images by cosine and all vectors have length 1
    (Radenovic et al. 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation"). With
    `alpha=0` this is average query expansion (Chum et al. 2007). Images at more than a right angle
    have no weight.

    >>> import numpy as np
    >>> query = np.array([[1, 0]], np.float32)
    >>> gallery = np.array([[0.6, 0.8], [-1, 0]], np.float32)
    >>> expanded = expand_queries(query, gallery, k=2, alpha=1)  # towards (1, 0) + 0.6 (0.6, 0.8)
    >>> print(expanded.round(3))
    [[0.943 0.333]]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: Number of gallery images; all G where it exceeds G.
        alpha: Exponent of the cosine, 0 or more; the higher, the more the nearest images count.
        memory_mb: Working memory in megabytes, beyond inputs and result.

    Returns:
        (Q, D) float32 of length 1, of the library and on the device of the inputs.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_count("k", k)
    check_at_least("alpha", alpha, 0)
    check_at_least("memory_mb", memory_mb, 1)
    queries, images, scale = check_features(query, gallery)
    with full_precision(queries.device):
        metric = build_distance_metric("cosine", scale)
        keys, found = nearest(queries, images, min(k, len(images)), metric, memory_mb)
        expanded = _expand(queries, images, keys, found, alpha, metric)
    return expanded if isinstance(query, Tensor) else expanded.cpu().numpy()


def expand_from_neighbours(
    query: NDArray[np.generic],
    features: NDArray[np.generic],
    neighbours: Integers,
    *,
    alpha: float = 3.0,
) -> NDArray[np.float32]:
    """Return queries that are moved towards their nearest gallery images, which are known.

    The result has the same bits as that of `expand_queries` over the whole gallery, where
    `neighbours` are the k nearest by cosine. Only the features of these are needed, so that the
    gallery may have any size: search it for the positions of the k nearest by the metric
    "cosine", whatever the metric of the search afterwards, and read the features there.

    >>> query = np.array([[1, 0]], np.float32)
    >>> positions = np.array([[70, 20]])  # of the nearest of a large gallery
    >>> unique = np.unique(positions)
    >>> features = np.array([[-1, 0], [0.6, 0.8]], np.float32)  # at these positions
    >>> neighbours = np.searchsorted(unique, positions)
    >>> print(expand_from_neighbours(query, features, neighbours, alpha=1).round(3))
    [[0.943 0.333]]

    Args:
        query: (Q, D) features of any real dtype.
        features: (U, D) features of gallery images.
        neighbours: (Q, N) int64 rows of `features`, the nearest image first; -1 for none.
        alpha: Exponent of the cosine, 0 or more (see `expand_queries`).

    Returns:
        (Q, D) float32 of length 1.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_at_least("alpha", alpha, 0)
    queries, images, scale = check_features(query, features)
    if neighbours.ndim != 2 or len(neighbours) != len(queries):
        raise ValueError(
            f"`neighbours` has shape {neighbours.shape}: expected ({len(queries)}, images)"
        )
    if neighbours.size and not -1 <= neighbours.min() <= neighbours.max() < len(images):
        raise ValueError(
            f"`neighbours` has values from {neighbours.min()} to {neighbours.max()}: "
            f"expected rows of the {len(images)} `features`, or -1"
        )
    found = torch.tensor(neighbours)
    with full_precision(queries.device):
        metric = build_distance_metric("cosine", scale)
        keys = torch.full(found.shape, torch.inf, dtype=torch.float64)
        rows, columns = (found >= 0).nonzero(as_tuple=True)
        keys[rows, columns] = metric.exact(queries, images, rows, found[rows, columns])
        return _expand(queries, images, keys, found, alpha, metric).numpy()


def _expand(
    query: Tensor,
    gallery: Tensor,
    keys: Tensor,
    found: Tensor,
    alpha: float,
    metric: DistanceMetric,
) -> Tensor:
    """Return expanded queries (Q, D).

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        keys: (Q, k) float64 exact keys of the nearest images; infinite for none.
        found: (Q, k) int64 indices of these.
        alpha: Exponent of the cosine.
        metric: Cosine distance.
    """
    expanded = metric.prepare(query, torch.float32).vectors
    cosines = 1 - metric.distance(keys)
    weights = torch.where(cosines > 0, cosines.clamp(min=0) ** alpha, 0).float()
    for column in range(found.shape[1]):
        neighbours = metric.prepare(gallery[found[:, column]], torch.float32).vectors
        expanded += weights[:, column, None] * neighbours
    return normalize(expanded)
