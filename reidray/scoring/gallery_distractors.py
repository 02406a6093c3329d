"""Gallery images that show no person: their scores, and how good these are."""

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

KINDS = {"distractors": DISTRACTOR, "junk": JUNK}
"""What labels call images that show no person, or too little of one."""

Scores = dict[str, NDArray[np.float32]]
"""By name, a number for each of N images that rises with the likelihood that it shows nobody."""


def score_images(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    doubt: NDArray[np.float32] | None,
    metric: str,
) -> Scores:
    """The scores of a gallery.

    `attribute_doubt` is the Trento report's. `distractor_score` is the distance to the nearest
    other images, times the doubt: each finds what the other misses. Where the model predicts no
    attributes there is the distance alone.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) likewise.
        doubt: (G,) of the attributes; None, or NaN, where the model predicts none.
        metric: distance between embeddings.
    """
    distance = mean_neighbour_distance(query, gallery, metric=metric)
    if doubt is None or np.isnan(doubt).any():
        return {DISTRACTOR_SCORE: distance}
    return {DISTRACTOR_SCORE: distance * doubt, ATTRIBUTE_DOUBT: doubt}


def distractor_table(names: Sequence[str], scores: Scores) -> bytes:
    """The scores as CSV in UTF-8, a line for each of N images, likely distractors first."""
    order = np.argsort(-scores[DISTRACTOR_SCORE], kind="stable")
    columns = [values[order] for values in scores.values()]
    rows = zip((names[row] for row in order), *columns, strict=True)
    return write_csv(("file", *scores), rows)


def labelled_distractors(people: NDArray[np.int64], source: str) -> list[str]:
    """Which of `KINDS` labels tell from people.

    Args:
        people: (N,) int64, who is on each image.
        source: where the labels come from, for the message of an error.

    Raises:
        UserError: none.
    """
    found = [kind for kind, label in KINDS.items() if (people == label).any()]
    if not found or not (people > DISTRACTOR).any():
        raise UserError(
            f"{source}: the gallery's labels tell no distractors (person 0) or junk (person -1) "
            "from people: leave out --distractor-scores"
        )
    return found


def separation_figures(people: NDArray[np.int64], scores: Scores, source: str) -> dict[str, Any]:
    """How well scores tell distractors, and junk, from people.

    Args:
        people: (N,) int64, who is on each image.
        scores: of the images.
        source: where the labels come from, for the message of an error.

    Returns:
        By kind and by score the AUC, its interval and the counts.

    Raises:
        UserError: there are no distractors and no junk.
    """
    found: dict[str, Any] = {}
    for kind in labelled_distractors(people, source):
        chosen = (people > DISTRACTOR) | (people == KINDS[kind])
        found[kind] = {
            name: asdict(distractor_auc(values[chosen], people[chosen] == KINDS[kind]))
            for name, values in scores.items()
        }
    return found
