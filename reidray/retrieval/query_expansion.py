"""Query expansion: ask with the mean of a query and what it found."""

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
    read_features,
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
    """Queries moved towards the k gallery images most like them, for a second search.

    Each becomes the direction of itself plus its k nearest by cosine, these weighted by the cosine
    to the power of alpha (Radenovic et al. 2018, "Fine-tuning CNN Image Retrieval with No Human
    Annotation"); alpha 0 is plain average query expansion (Chum et al. 2007). Images at more than
    a right angle have no weight.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: gallery images; more than G takes all G.
        alpha: 0 or more; the higher, the more the nearest count.
        memory_mb: megabytes to work in, beyond inputs and result.

    Returns:
        (Q, D) float32 of length 1, of the library and on the device of the inputs.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_count("k", k)
    check_at_least("alpha", alpha, 0)
    check_at_least("memory_mb", memory_mb, 1)
    queries, images, scale = read_features(query, gallery)
    with full_precision(queries.device):
        metric = build_distance_metric("cosine", scale)
        distances, found = nearest(queries, images, min(k, len(images)), metric, memory_mb)
        expanded = metric.prepare(queries, torch.float32).vectors
        cosines = 1 - metric.distance(distances)
        weights = torch.where(cosines > 0, cosines.clamp(min=0) ** alpha, 0).float()
        for place in range(found.shape[1]):
            neighbours = metric.prepare(images[found[:, place]], torch.float32).vectors
            expanded += weights[:, place, None] * neighbours
        expanded = normalize(expanded)
    return expanded if isinstance(query, Tensor) else expanded.cpu().numpy()
