"""Score gallery images that show no person: false alarms of a detector, and parts of people.

Every score rises with the likelihood that an image shows no person. No score is a probability, and
a threshold that suits one model does not suit another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.data.device_copies import to_device
from reidray.retrieval.array_inputs import as_features
from reidray.retrieval.exact_search import top_k

NEIGHBOURS = 5


def attribute_uncertainty(probabilities: Sequence[Tensor]) -> Tensor:
    """Return the uncertainty of a network about the attributes of images.

    Over A attributes with probabilities p_a,v of their values:

        u = 1 / A  sum_a (1 - sum_v p_a,v^2)

    It is 0 where the network is certain of every attribute, as for most people, and high where it
    is not, as for a bicycle. A student report of the University of Trento proposes the sum of
    squares over all attributes, which is low for distractors. This score has the reverse order and
    does not grow with the number of attributes.

    >>> attribute_uncertainty([torch.tensor([[1.0, 0.0], [0.5, 0.5]])]).tolist()
    [0.0, 0.5]

    Args:
        probabilities: For each attribute (N, V), rows that sum to 1; V may differ.

    Returns:
        (N,) of the dtype of the probabilities, at least 0 and less than 1.
    """
    return torch.stack([1 - of.square().sum(dim=1) for of in probabilities]).mean(dim=0)


def mean_neighbour_distance(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    *,
    k: int = NEIGHBOURS,
    metric: str = "euclidean",
    memory_mb: float = 512,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Return the mean distance of gallery images to their nearest other images.

        s(g) = 1 / k  sum_{i = 1..k} d(g, n_i)

    where n_1, ..., n_k are the images nearest to g among the queries and the other gallery images.
    Several photographs of a person resemble each other; few false alarms do. A person who was
    photographed only once scores high as well. The search is exact and holds no whole distance
    matrix; its time grows with the square of the gallery.

    >>> gallery = np.array([[0.0], [1.0], [9.0]], np.float32)
    >>> mean_neighbour_distance(np.array([[2.0]], np.float32), gallery, k=1).tolist()
    [1.0, 1.0, 7.0]

    Args:
        query: (Q, D) float32.
        gallery: (G, D) float32.
        k: Number of nearest images; fewer where there are no more.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: Working memory in megabytes, beyond inputs and result.
        device: Device that searches, such as "cuda"; the result is the same on each.

    Returns:
        (G,) float32.

    Raises:
        ValueError: An argument is not as described; the message names it.
    """
    queries, images = (
        to_device(as_features(name, features), torch.device(device))
        for name, features in (("query", query), ("gallery", gallery))
    )
    in_gallery, indices = (
        each.cpu().numpy()
        for each in top_k(images, images, k + 1, metric=metric, memory_mb=memory_mb)
    )
    to_queries, _ = top_k(images, queries, k, metric=metric, memory_mb=memory_mb)
    itself = indices == np.arange(len(gallery))[:, None]
    return mean_to_others(in_gallery, itself, to_queries.cpu().numpy(), k)


def mean_to_others(
    in_gallery: NDArray[np.float32],
    itself: NDArray[np.bool_],
    to_queries: NDArray[np.float32],
    k: int = NEIGHBOURS,
) -> NDArray[np.float32]:
    """Return the mean distance of images to their k nearest other images, from known neighbours.

    >>> in_gallery = np.array([[0.0, 3.0]], np.float32)
    >>> itself = np.array([[True, False]])
    >>> mean_to_others(in_gallery, itself, np.array([[1.0]], np.float32), k=2).tolist()
    [2.0]

    Args:
        in_gallery: (N, n) float32, the smallest distances to images of the gallery, ascending; n is
            k + 1, or the size of the gallery where that is smaller.
        itself: (N, n) bool, whether the image at that distance is the image itself.
        to_queries: (N, m) float32, the smallest distances to queries; m is k, or the number of
            queries where that is smaller.
        k: Number of nearest images.

    Returns:
        (N,) float32.
    """
    # An image with many copies of lower index is not among its own nearest.
    itself = itself.copy()
    itself[~itself.any(axis=1), -1] = True
    others = in_gallery[~itself].reshape(len(in_gallery), in_gallery.shape[1] - 1)
    nearest = np.sort(np.concatenate([others, to_queries], axis=1), axis=1)[:, :k]
    return np.asarray(nearest.mean(axis=1, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class DistractorAUC:
    """Hold the accuracy of a score that separates distractors from people.

    Attributes:
        auc: Area under the ROC curve.
        interval: 95 % confidence interval of `auc` (DeLong et al. 1988), cut to 0..1; None where
            one kind has a single image.
        distractors: Number of images of distractors.
        people: Number of images of people.
    """

    auc: float
    interval: tuple[float, float] | None
    distractors: int
    people: int


def distractor_auc(scores: NDArray[np.floating], is_distractor: NDArray[np.bool_]) -> DistractorAUC:
    """Compute the accuracy of a score that separates distractors from people.

        AUC = P(s_distractor > s_person) + 1/2 P(s_distractor = s_person)

    over all pairs of a distractor and an image of a person; 0.5 is chance. With the structural
    components V_d (share of people below a distractor) and V_p (share of distractors above a
    person), ties counted half, the variance is var(V_d) / D + var(V_p) / P and the interval is
    AUC +- 1.96 standard deviations (DeLong et al. 1988).

    >>> scores = np.array([0.9, 0.8, 0.5, 0.5, 0.1])
    >>> found = distractor_auc(scores, np.array([True, False, True, False, False]))
    >>> found.auc, found.distractors, found.people  # 4.5 of 6 pairs are in order
    (0.75, 2, 3)

    Args:
        scores: (N,) numbers, none of them NaN.
        is_distractor: (N,) bool.

    Raises:
        ValueError: All images are of one kind.
    """
    distractors, people = np.sort(scores[is_distractor]), np.sort(scores[~is_distractor])
    if not len(distractors) or not len(people):
        raise ValueError("`is_distractor` is the same for all images: expected both kinds")
    people_below = _share_below(distractors, people)
    auc = float(people_below.mean())
    interval = None
    if min(len(distractors), len(people)) > 1:
        distractors_below = _share_below(people, distractors)
        variance = people_below.var(ddof=1) / len(distractors)
        variance += distractors_below.var(ddof=1) / len(people)
        half_width = 1.96 * float(np.sqrt(variance))
        interval = max(0.0, auc - half_width), min(1.0, auc + half_width)
    return DistractorAUC(auc, interval, len(distractors), len(people))


def _share_below(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share (N,) of the sorted others (M,) below each score; ties count half."""
    below = others.searchsorted(scores, "left") + others.searchsorted(scores, "right")
    return np.asarray(below / (2 * len(others)))
