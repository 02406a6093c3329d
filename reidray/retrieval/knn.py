"""Naming a person by a vote of the nearest gallery images, as classical evaluation does."""

import numpy as np
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    Labels,
    as_labels,
    check_choice,
    read_features,
)
from reidray.retrieval.exact_search import top_k

WEIGHTS = ("uniform", "distance")


def knn_classify(
    query: Array,
    gallery: Array,
    gallery_ids: Labels,
    *,
    k: int = 1,
    weights: str = "uniform",
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> Integers:
    """The person that the k nearest gallery images name for each query.

    Of several persons with as many votes it is the one whose image is nearest. The mean of
    `knn_classify(...) == query_ids` is the nearest-neighbour accuracy.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        gallery_ids: (G,) whole numbers, the persons.
        k: how many vote; more than G lets all G vote.
        weights: "uniform" gives each image one vote, "distance" one over its distance (images at
            distance 0 then overrule all others).
        metric: "euclidean", "cosine" or "l1".
        memory_mb: megabytes to work in, beyond the inputs.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_choice("weights", weights, WEIGHTS)
    queries, images, _ = read_features(query, gallery)
    ids = as_labels("gallery_ids", gallery_ids, len(images))
    found = top_k(queries, images, k, metric=metric, memory_mb=memory_mb)
    distances, indices = (part.cpu().numpy() for part in found)
    voters = ids[indices]
    return _elected(voters, _votes(distances, weights))


def _votes(distances: NDArray[np.float32], weights: str) -> NDArray[np.float64]:
    """(Q, k) the weight of each neighbour's vote."""
    if weights == "uniform":
        return np.ones(distances.shape)
    same = distances == 0
    nearby = 1 / np.where(same, np.inf, distances.astype(np.float64))
    return np.where(same.any(axis=1, keepdims=True), same, nearby)


def _elected(voters: Integers, votes: NDArray[np.float64]) -> Integers:
    """(Q,) whom most of the votes (Q, k) of `voters` (Q, k), the nearest first, are for."""
    totals = np.zeros(votes.shape)
    for place in range(voters.shape[1]):
        totals += (voters == voters[:, place, None]) * votes[:, place, None]
    # The first of equal totals is the nearest.
    chosen = totals.argmax(axis=1)
    return np.asarray(voters[np.arange(len(voters)), chosen])
