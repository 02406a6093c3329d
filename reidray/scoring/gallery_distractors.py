"""Find gallery images that show no person, and evaluate the scores that identify them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.metrics.distractor_scores import distractor_auc, mean_neighbour_distance
from reidray.metrics.protocols import DISTRACTOR, JUNK
from reidray.storage.csv_files import write_csv

DISTRACTOR_SCORE = "distractor_score"
ATTRIBUTE_DOUBT = "attribute_doubt"

DISTRACTOR_LABELS = {"distractors": DISTRACTOR, "junk": JUNK}
"""Person ids of images that show no person, or too little of one, by kind."""

Scores = dict[str, NDArray[np.float32]]
"""(N,) float32 scores by name, which rise with the likelihood that an image shows no person."""


def score_distractors(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    uncertainty: NDArray[np.float32] | None,
    metric: str,
) -> Scores:
    """Return the distractor scores of a gallery.

    `attribute_doubt` is the uncertainty of the attributes, a score of the University of Trento.
    `distractor_score` is the mean distance to the nearest other images, times the uncertainty; each
    factor finds distractors that the other misses. Where the model predicts no attributes,
    `distractor_score` is the distance alone.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        uncertainty: (G,) uncertainty of the attributes; None, or NaN, where the model predicts
            none.
        metric: distance between embeddings.
    """
    distance = mean_neighbour_distance(query, gallery, metric=metric)
    if uncertainty is not None and np.isnan(uncertainty).any():
        uncertainty = None
    return combine_scores(distance, uncertainty)


def combine_scores(
    distance: NDArray[np.float32], uncertainty: NDArray[np.float32] | None
) -> Scores:
    """Return the distractor scores of N images (see `score_distractors`).

    Args:
        distance: (N,) mean distance to the nearest other images.
        uncertainty: (N,) uncertainty of the attributes; None where the model predicts none.
    """
    if uncertainty is None:
        return {DISTRACTOR_SCORE: distance}
    return {DISTRACTOR_SCORE: distance * uncertainty, ATTRIBUTE_DOUBT: uncertainty}


def distractor_table(paths: Sequence[str], scores: Scores) -> bytes:
    """Return the scores of N images as CSV in UTF-8, a line for each of them in their order."""
    return write_csv(("file", *scores), zip(paths, *scores.values(), strict=True))


def find_distractor_kinds(person_ids: NDArray[np.int64], source: str) -> list[str]:
    """Return the kinds of `DISTRACTOR_LABELS` that a labelled gallery holds beside people.

    Args:
        person_ids: (N,) int64 labels.
        source: origin of the labels, for the message of an error.

    Raises:
        UserError: the gallery holds no distractors and no junk, or no people.
    """
    kinds = [kind for kind, label in DISTRACTOR_LABELS.items() if (person_ids == label).any()]
    if not kinds or not (person_ids > DISTRACTOR).any():
        raise UserError(
            f"{source}: the gallery's labels tell no distractors (person 0) or junk (person -1) "
            "from people: leave out `distractor_scores`"
        )
    return kinds


def evaluate_distractor_scores(
    person_ids: NDArray[np.int64], scores: Scores, source: str
) -> dict[str, Any]:
    """Evaluate each score as a classifier of distractors, and of junk, against people.

    Args:
        person_ids: (N,) int64 labels.
        scores: scores of the N images.
        source: origin of the labels, for the message of an error.

    Returns:
        By kind and by score the fields of `DistractorAUC`.

    Raises:
        UserError: there are no distractors and no junk, or no people.
    """
    metrics: dict[str, Any] = {}
    for kind in find_distractor_kinds(person_ids, source):
        label = DISTRACTOR_LABELS[kind]
        chosen = (person_ids > DISTRACTOR) | (person_ids == label)
        metrics[kind] = {
            name: asdict(distractor_auc(values[chosen], person_ids[chosen] == label))
            for name, values in scores.items()
        }
    return metrics
