"""Principal components of the pixels as embeddings: the "eigenpersons" baseline."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import PixelProjection, PixelScaler, flatten_crops


class PCABaseline(PixelProjection):
    """Embeds crops as the leading principal components of their standardised pixels.

    After eigenfaces (Turk and Pentland 1991): no labels, no knowledge of what a person is.
    """

    @classmethod
    def fit(
        cls,
        crops: npt.NDArray[np.uint8],
        components: float = 128,
        *,
        grey: bool = False,
        seed: int = 0,
    ) -> Self:
        """Fits the components to training crops in memory.

        Args:
            crops: (N, H, W, 3) uint8.
            components: how many to keep (int), cut where there are fewer crops or pixels; or under
                1 the share of the variance that the ones kept hold.
            grey: take luminance for colour.
            seed: of the randomised solver that scikit-learn takes for few components of many.

        Raises:
            ValueError: `crops` has another shape or holds fewer than two.
        """
        pixels = flatten_crops(crops, grey=grey)
        if len(pixels) < 2:
            raise ValueError(f"crops hold {len(pixels)}: expected two or more")
        mean = pixels.mean(axis=0, dtype=np.float64)
        variance = pixels.var(axis=0, dtype=np.float64)
        scale = PixelScaler.of(mean, variance, (crops.shape[1], crops.shape[2]), grey=grey)
        count = min(int(components), *pixels.shape) if components >= 1 else None
        pca = PCA(count, random_state=seed).fit(scale.standardise(crops))
        shares = pca.explained_variance_ratio_.astype(np.float64)
        return cls(scale, pca.components_, shares.cumsum()).keep(components)

    @classmethod
    def from_moments(cls, moments: PixelMoments, components: float) -> Self:
        """The components of crops that were summed up, however many they were.

        The eigenvectors of the correlation matrix of the pixels: the cost depends on the number
        of pixels alone, under a minute on two cores for 6,144.

        Args:
            moments: of the training crops.
            components: as in `fit`.

        Raises:
            ValueError: `moments` are of fewer than two crops.
        """
        mean, covariance = moments.mean_and_covariance()
        scale = PixelScaler.of(mean, covariance.diagonal(), moments.size, grey=moments.grey)
        covariance /= scale.deviation
        covariance /= scale.deviation[:, None]
        values, vectors = np.linalg.eigh(covariance)
        count = min(moments.count, len(values))
        shares = values[::-1][:count].clip(min=0).cumsum()
        directions = _signed(vectors.T[::-1][:count]).astype(np.float32)
        return cls(scale, directions, shares / shares[-1]).keep(components)


def _signed(directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The directions (D, P), each turned so that its largest entry is positive."""
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return np.asarray(directions * signs[:, None])
