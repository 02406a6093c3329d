"""Classify images by a vote of their nearest images."""

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.data.device_copies import to_device
from reidray.retrieval.array_inputs import (
    Array,
    Integers,
    Labels,
    as_features,
    check_choice,
    check_features,
    check_labels,
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
    """Return for each query the person that its k nearest gallery images vote for.

    The vote is that of scikit-learn's `KNeighborsClassifier`:

        person(q) = argmax_p  sum_{i = 1..k, id(g_i) = p} w_i

    where g_1, ..., g_k are the nearest images and w_i is 1 (uniform) or 1 / d(q, g_i) (distance).
    Of several persons with equal votes, the one whose image is nearest wins. The mean of
    `knn_classify(...) == query_ids` is the nearest-neighbour accuracy.

    >>> import numpy as np
    >>> gallery = np.array([[1.0], [2.0], [3.0]], np.float32)
    >>> query = np.zeros((1, 1), np.float32)
    >>> knn_classify(query, gallery, [7, 4, 4], k=1).tolist()
    [7]
    >>> knn_classify(query, gallery, [7, 4, 4], k=3).tolist()
    [4]
    >>> knn_classify(query, gallery, [7, 4, 4], k=3, weights="distance").tolist()  # 1 > 1/2 + 1/3
    [7]

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        gallery_ids: (G,) whole numbers, the person of each image.
        k: Number of images that vote; all G where it exceeds G.
        weights: "uniform" or "distance". By distance, images at distance 0 overrule all others.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes, beyond the inputs.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    check_choice("weights", weights, WEIGHTS)
    queries, images, _ = check_features(query, gallery)
    ids = check_labels("gallery_ids", gallery_ids, len(images))
    found = top_k(queries, images, k, metric=metric, memory_mb=memory_mb)
    distances, indices = (part.cpu().numpy() for part in found)
    return _winners(ids[indices], _vote_weights(distances, weights))


def vote_attributes(
    features: NDArray[np.generic],
    labels: NDArray[np.int64],
    *,
    k: int,
    metric: str = "euclidean",
    memory_mb: float = 512,
    device: str | torch.device = "cpu",
) -> NDArray[np.int64]:
    """Return for each image the attributes that its k nearest images vote for.

        label(x, a) = argmax_v  |{i = 1..k : label(x_i, a) = v}|

    where x_1, ..., x_k are the images nearest to x, x among them. Images of one person are near to
    each other and share most attributes, so the errors of single images cancel out. Of several
    values with equal votes, the one whose image is nearest wins. The search is exact and holds no
    whole distance matrix; its time grows with the square of the number of images.

    >>> import numpy as np
    >>> features = np.array([[0.0], [0.1], [0.2], [9.0]], np.float32)
    >>> vote_attributes(features, np.array([[1], [0], [1], [0]]), k=3).ravel().tolist()
    [1, 1, 1, 0]

    Args:
        features: (N, D) float32.
        labels: (N, A) int64, a label of each attribute.
        k: Number of images that vote; all N where it exceeds N.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes, beyond inputs and result.
        device: Device that searches, such as "cuda"; the result is the same on each.

    Returns:
        (N, A) int64.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    images = to_device(as_features("features", features), torch.device(device))
    indices = top_k(images, images, k, metric=metric, memory_mb=memory_mb)[1].cpu().numpy()
    return count_votes(labels, indices)


def count_votes(labels: NDArray[np.int64], indices: Integers) -> NDArray[np.int64]:
    """Return the labels that the most of some images have (see `vote_attributes`).

    >>> labels = np.array([[1, 0], [1, 2], [5, 2]])
    >>> count_votes(labels, np.array([[2, 0, 1], [0, 2, 1]])).tolist()
    [[1, 2], [1, 2]]

    Args:
        labels: (U, A) int64, a label of each attribute.
        indices: (N, k) int64, the rows of the images that vote, nearest first.

    Returns:
        (N, A) int64.
    """
    alike = np.ones(indices.shape)
    columns = [_winners(column[indices], alike) for column in labels.T]
    return np.stack(columns, axis=1)


def _vote_weights(distances: NDArray[np.float32], weights: str) -> NDArray[np.float64]:
    """Return the weight (Q, k) of the vote of each neighbour."""
    if weights == "uniform":
        return np.ones(distances.shape)
    same = distances == 0
    nearby = 1 / np.where(same, np.inf, distances.astype(np.float64))
    return np.where(same.any(axis=1, keepdims=True), same, nearby)


def _winners(ids: Integers, weights: NDArray[np.float64]) -> Integers:
    """Return the id (Q,) with the largest total weight.

    Args:
        ids: (Q, k) id of each neighbour, nearest first.
        weights: (Q, k) weight of its vote.
    """
    places = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
    pairs = places + ids.size * np.arange(len(ids))[:, None]  # a number for each query and id
    each = np.unique(pairs, return_inverse=True)[1].ravel()
    totals = np.bincount(each, weights.ravel())[each].reshape(ids.shape)
    # argmax takes the first of equal totals, which is the nearest.
    return np.asarray(ids[np.arange(len(ids)), totals.argmax(axis=1)])
