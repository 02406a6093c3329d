"""Embed crops by principal components of their pixels: the "eigenpersons" baseline."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import PixelProjection, PixelScaler, flatten_crops


class PCABaseline(PixelProjection):
    """Embed crops by the leading principal components of their scaled pixels.

    The method follows eigenfaces (Turk and Pentland 1991) and needs no labels.
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
        """Fit the components to training crops in memory.

        Args:
            crops: (N, H, W, 3) uint8.
            components: Number of components, at most the number of crops and of pixels; below 1,
                the share of the variance that the components have to hold.
            grey: Whether to use luminance instead of colours.
            seed: Seed of the randomised solver, which scikit-learn uses for few components of many.

        Raises:
            ValueError: `crops` has another shape or fewer than two crops.
        """
        pixels = flatten_crops(crops, grey=grey)
        if len(pixels) < 2:
            raise ValueError(f"`crops` holds {len(pixels)}: expected two or more")
        mean = pixels.mean(axis=0, dtype=np.float64)
        variance = pixels.var(axis=0, dtype=np.float64)
        scaler = PixelScaler.from_moments(
            mean, variance, (crops.shape[1], crops.shape[2]), grey=grey
        )
        count = min(int(components), *pixels.shape) if components >= 1 else None
        pca = PCA(count, random_state=seed).fit(scaler.transform(crops))
        shares = pca.explained_variance_ratio_.astype(np.float64)
        return cls(scaler, pca.components_, shares.cumsum()).truncate(components)

    @classmethod
    def from_moments(
        cls, moments: PixelMoments, components: float, *, standardise: bool = True
    ) -> Self:
        """Fit the components to training crops that were summed up, of any number.

        The components are the eigenvectors of the correlation matrix of the pixels. The cost
        depends on the number of pixels only: under a minute on two cores for 6,144 values.

        Args:
            moments: Moments of the training crops.
            components: Number or share of the variance, as in `fit`.
            standardise: Whether to divide each pixel by its standard deviation; without, the
                components are the eigenvectors of the covariance matrix.

        Raises:
            ValueError: `moments` has fewer than two crops.
        """
        mean, covariance = moments.mean_and_covariance()
        scaler = PixelScaler.from_moments(
            mean,
            covariance.diagonal(),
            moments.size,
            grey=moments.grey,
            standardise=standardise,
        )
        covariance /= scaler.deviation
        covariance /= scaler.deviation[:, None]
        values, vectors = np.linalg.eigh(covariance)
        count = min(moments.count, len(values))
        shares = values[::-1][:count].clip(min=0).cumsum()
        directions = _signed(vectors.T[::-1][:count]).astype(np.float32)
        return cls(scaler, directions, shares / shares[-1]).truncate(components)

    def reconstruct(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the crops (N, H, W, 3) uint8 that embeddings (N, D) describe.

        The fewer components there are, the less of a crop its reconstruction shows. Of luminance it
        is grey.
        """
        return self.scaler.restore(embeddings @ self.components)


def _signed(directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return directions (D, P), each with the sign that makes its largest entry positive."""
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return np.asarray(directions * signs[:, None])
