"""Principal components of the pixels as embeddings: the "eigenpersons" baseline."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class PCABaseline:
    """Embeds crops as the leading principal components of their standardised pixels.

    After eigenfaces (Turk and Pentland 1991): no labels, no knowledge of what a person is.
    """

    pipeline: Pipeline
    crop_shape: tuple[int, ...]

    @classmethod
    def fit(cls, crops: npt.NDArray[np.uint8], components: int = 128, seed: int = 0) -> Self:
        """Fits the components to training crops.

        Args:
            crops: (N, H, W, 3) uint8.
            components: how many to keep; fewer where there are fewer crops or pixels than that.
            seed: of the randomised solver that scikit-learn takes for large inputs.

        Raises:
            ValueError: `crops` has another shape or holds fewer than two.
        """
        if crops.ndim != 4 or crops.shape[3] != 3:
            raise ValueError(f"crops have shape {crops.shape}, expected (N, H, W, 3)")
        pixels = _flatten(crops)
        pca = PCA(min(components, *pixels.shape), random_state=seed)
        return cls(make_pipeline(StandardScaler(), pca).fit(pixels), crops.shape[1:])

    def embed(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings of crops (N, H, W, 3) uint8 as (N, D) float32.

        Raises:
            ValueError: the crops are not of the size that the baseline was fitted to.
        """
        if crops.shape[1:] != self.crop_shape:
            raise ValueError(f"crops have shape {crops.shape}, expected (N, *{self.crop_shape})")
        if not len(crops):
            return np.empty((0, self.pipeline[-1].n_components_), np.float32)
        embeddings: npt.NDArray[np.float32] = self.pipeline.transform(_flatten(crops))
        return embeddings


def _flatten(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return crops.reshape(len(crops), -1).astype(np.float32)
