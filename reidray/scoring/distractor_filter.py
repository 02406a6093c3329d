"""What is left of a gallery without the images that show no person."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.errors import UserError
from reidray.inference.predictions import Predictions
from reidray.scoring.gallery_distractors import DISTRACTOR_SCORE, Scores, score_images


@dataclass(frozen=True)
class FilteredGallery:
    """What is known of the distractors in a gallery of M images.

    Attributes:
        keep: (M,) bool, which images queries are answered with.
        scores: of all of them.
    """

    keep: NDArray[np.bool_]
    scores: Scores


def filter_distractors(
    query: Predictions, gallery: Predictions, metric: str, most: float | None
) -> FilteredGallery:
    """Score a gallery and leave out its distractors.

    Args:
        query: what the model says of the queries.
        gallery: what it says of the M images of the gallery.
        metric: distance between embeddings.
        most: images with a higher score are left out; None leaves all in.

    Raises:
        UserError: no image is left.
    """
    scores = score_images(query.embeddings, gallery.embeddings, gallery.uncertainty, metric)
    decisive = scores[DISTRACTOR_SCORE]
    keep = decisive <= (np.inf if most is None else most)
    if not keep.any():
        raise UserError(
            f"--max-distractor-score {most:g} leaves out the whole gallery, whose least score is "
            f"{decisive.min():.4g}: raise it, or rank without it"
        )
    return FilteredGallery(keep, scores)
