"""Which gallery images show no person: false alarms of a detector, and pieces of people.

Every score here rises with the likelihood that nobody is on the image. None is a probability, and
a threshold that suits one model does not suit another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.exact_search import top_k

NEIGHBOURS = 5


def attribute_uncertainty(probabilities: Sequence[Tensor]) -> Tensor:
    """How unsure a network is of an image's attributes.

    1 less the sum of the squared probabilities of an attribute's values, the mean over attributes:
    0 where it is sure of each, as of most people; high where it cannot tell trousers from a dress,
    as on a bicycle.

    The score that a student report of the University of Trento suggests is the sum of squares over
    all attributes, low for distractors; this is the same order turned round, and does not grow with
    the number of attributes.

    Args:
        probabilities: of each attribute (N, V), rows that add up to 1; V may differ.

    Returns:
        (N,) of the probabilities' dtype, 0 or more and less than 1.
    """
    return torch.stack([1 - of.square().sum(dim=1) for of in probabilities]).mean(dim=0)


def mean_neighbour_distance(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    *,
    k: int = NEIGHBOURS,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> NDArray[np.float32]:
    """How far each gallery image is from what is most like it, in the gallery and the queries.

    People are photographed several times, and look like each other; few false alarms do. An image
    of somebody who is there once only is far from the others as well.

    Exact and without a whole distance matrix, as `top_k` is; the work grows with the square of the
    gallery.

    Args:
        query: (Q, D) float32.
        gallery: (G, D) float32.
        k: how many of the nearest to take the mean over; fewer where there are no more.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: megabytes to work in, beyond inputs and result.

    Returns:
        (G,) float32.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    among, places = top_k(gallery, gallery, k + 1, metric=metric, memory_mb=memory_mb)
    itself = places == np.arange(len(gallery))[:, None]
    # An image with many copies before it is not among its own nearest.
    itself[~itself.any(axis=1), -1] = True
    others = among[~itself].reshape(len(gallery), -1)
    queries, _ = top_k(gallery, query, k, metric=metric, memory_mb=memory_mb)
    nearest = np.sort(np.concatenate([others, queries], axis=1), axis=1)[:, :k]
    return np.asarray(nearest.mean(axis=1, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class DistractorAUC:
    """How well a score tells two kinds of images apart.

    Attributes:
        auc: area under the ROC curve: how often a distractor scores higher than a person, a tie
            counting a half.
        interval: where 95 of 100 such figures would lie (DeLong et al. 1988), were other images
            taken; None where one kind has a single image.
        distractors: how many there are.
        people: images of people.
    """

    auc: float
    interval: tuple[float, float] | None
    distractors: int
    people: int


def distractor_auc(scores: NDArray[np.floating], is_distractor: NDArray[np.bool_]) -> DistractorAUC:
    """How well scores tell distractors from people.

    Args:
        scores: (N,) numbers, none of them NaN.
        is_distractor: (N,) bool.

    Raises:
        ValueError: all images are of one kind.
    """
    distractors, people = np.sort(scores[is_distractor]), np.sort(scores[~is_distractor])
    if not len(distractors) or not len(people):
        raise ValueError("is_distractor is the same for all images: expected both kinds")
    wins = _share_below(distractors, people)
    auc = float(wins.mean())
    interval = None
    if min(len(distractors), len(people)) > 1:
        losses = _share_below(people, distractors)
        variance = wins.var(ddof=1) / len(distractors) + losses.var(ddof=1) / len(people)
        reach = 1.96 * float(np.sqrt(variance))
        interval = max(0.0, auc - reach), min(1.0, auc + reach)
    return DistractorAUC(auc, interval, len(distractors), len(people))


def _share_below(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) which share of the sorted others (M,) is less than each score, ties half."""
    below = others.searchsorted(scores, "left") + others.searchsorted(scores, "right")
    return np.asarray(below / (2 * len(others)))
