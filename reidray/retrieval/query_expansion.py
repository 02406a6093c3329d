"""Expand queries by the gallery images that they retrieve."""

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from reidray.retrieval.array_inputs import (
    Array,
    check_at_least,
    check_count,
    check_features,
)
from reidray.retrieval.distances import build_distance_metric
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
        distances, found = nearest(queries, images, min(k, len(images)), metric, memory_mb)
        expanded = metric.prepare(queries, torch.float32).vectors
        cosines = 1 - metric.distance(distances)
        weights = torch.where(cosines > 0, cosines.clamp(min=0) ** alpha, 0).float()
        for column in range(found.shape[1]):
            neighbours = metric.prepare(images[found[:, column]], torch.float32).vectors
            expanded += weights[:, column, None] * neighbours
        expanded = normalize(expanded)
    return expanded if isinstance(query, Tensor) else expanded.cpu().numpy()
