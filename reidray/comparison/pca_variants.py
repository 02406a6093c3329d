"""Evaluate variants of PCA: with and without augmentation, and with and without standardising."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reidray.baselines.augmented_copies import AugmentedCopies
from reidray.baselines.distributed_pixels import compute_moments, project_images
from reidray.baselines.pca import PCABaseline
from reidray.comparison.comparison_data import GALLERY, QUERY, ComparisonData, image_names
from reidray.comparison.methods import BASELINE_METRIC, FittedBaselines
from reidray.config.comparison import CompareConfig
from reidray.metrics import evaluate
from reidray.progress import Activity

SHARE = 0.95
"""Share of the variance that the components of each variant hold."""

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class PCAVariant:
    """Hold the metrics of a variant of PCA.

    Attributes:
        augmented: whether it was fitted to an augmented copy of each training image in place of
            the image.
        standardised: whether each pixel was divided by its standard deviation.
        components: the number of components that hold 95 per cent of the variance.
        top: the share of queries with a match up to a rank, by the rank.
        mean_ap: the mean average precision.
    """

    augmented: bool
    standardised: bool
    components: int
    top: dict[int, float]
    mean_ap: float

    def to_row(self) -> dict[str, Any]:
        """Return the values by the names that they have in comparison.json."""
        return {
            "augmented": self.augmented,
            "standardised": self.standardised,
            "components": self.components,
            **{f"top{rank}": share for rank, share in self.top.items()},
            "mean_ap": self.mean_ap,
        }


def evaluate_pca_variants(
    config: CompareConfig, data: ComparisonData, baselines: FittedBaselines
) -> tuple[PCAVariant, ...]:
    """Fit and evaluate the variants. Needs Ray.

    Args:
        config: the configuration of the comparison.
        data: the images without bad images.
        baselines: the fitted baselines; one of the variants is theirs.
    """
    names = image_names(data.train)
    size = config.height, config.width
    copies = AugmentedCopies(len(names), config.seed)
    augmented, _ = compute_moments(data.location, names, size, grey=config.grey, copies=copies)
    with Activity("fitting variants of PCA"):
        fitted = {
            (False, True): baselines.pca.truncate(SHARE),
            (False, False): PCABaseline.from_moments(baselines.moments, SHARE, standardise=False),
            (True, True): PCABaseline.from_moments(augmented, SHARE),
            (True, False): PCABaseline.from_moments(augmented, SHARE, standardise=False),
        }
    return tuple(
        _evaluate_variant(config, data, pca, augmented=is_augmented, standardised=is_standardised)
        for (is_augmented, is_standardised), pca in fitted.items()
    )


def _evaluate_variant(
    config: CompareConfig,
    data: ComparisonData,
    pca: PCABaseline,
    *,
    augmented: bool,
    standardised: bool,
) -> PCAVariant:
    names = [path for name in (QUERY, GALLERY) for path in image_names(data.sets[name])]
    embeddings = project_images(pca, data.location, names).embeddings
    query, gallery = np.split(embeddings, [len(data.query)])
    ranking = evaluate(
        query,
        gallery,
        data.query.person_ids,
        data.gallery.person_ids,
        data.query.camera_ids,
        data.gallery.camera_ids,
        metric=config.metric or BASELINE_METRIC,
        protocol=data.protocol,
        max_rank=max(RANKS),
    )
    top = {rank: float(ranking.cmc[rank - 1]) for rank in RANKS}
    return PCAVariant(augmented, standardised, len(pca.components), top, ranking.mean_ap)
