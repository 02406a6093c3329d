"""What is left of a gallery without the images that show no person."""

from dataclasses import dataclass, field

from reidray.errors import UserError
from reidray.scoring.config import ScoreConfig
from reidray.scoring.distractors import DISTRACTOR_SCORE, Scores, score_images
from reidray.scoring.embedder import EmbeddedSet


@dataclass(frozen=True)
class SiftedGallery:
    """A gallery and what is known of the distractors in it.

    Attributes:
        ranked: the images that queries are answered with.
        scores: of all images that decoded; empty where nobody asked for them.
    """

    ranked: EmbeddedSet
    scores: Scores = field(default_factory=dict)


def sift(
    queries: EmbeddedSet, gallery: EmbeddedSet, metric: str, config: ScoreConfig
) -> SiftedGallery:
    """Score a gallery and leave out its distractors, as far as is asked for.

    Args:
        queries: the night's.
        gallery: likewise.
        metric: distance between embeddings.
        config: with `distractor_scores` and `max_distractor_score`.

    Raises:
        UserError: no image is left.
    """
    most = config.max_distractor_score
    if most is None and not config.distractor_scores:
        return SiftedGallery(gallery)
    scores = score_images(queries.embeddings, gallery.embeddings, gallery.doubt, metric)
    if most is None:
        return SiftedGallery(gallery, scores)
    decisive = scores[DISTRACTOR_SCORE]
    keep = decisive <= most
    if not keep.any():
        raise UserError(
            f"--max-distractor-score {most:g} leaves out the whole gallery, whose least score is "
            f"{decisive.min():.4g}: raise it, or rank without it"
        )
    return SiftedGallery(gallery.take(keep), scores)
