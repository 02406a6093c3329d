"""Crops as rows of standardised pixels, and linear maps of these as embeddings."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

LUMA_SHIFT = 16
LUMA = np.array([19595, 38470, 7471], np.uint32)
"""ITU-R 601 weights of red, green and blue in 65,536ths, as Pillow's: whole numbers stay whole."""


def flatten_crops(crops: npt.NDArray[np.uint8], *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """Crops (N, H, W, 3) uint8 as rows (N, P) uint8: P is H x W x 3, or H x W of luminance.

    Raises:
        ValueError: `crops` has another shape.
    """
    if crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops have shape {crops.shape}, expected (N, H, W, 3)")
    if grey:
        weighted = crops.astype(np.uint32) @ LUMA + (1 << (LUMA_SHIFT - 1))
        crops = (weighted >> LUMA_SHIFT).astype(np.uint8)
    return crops.reshape(len(crops), math.prod(crops.shape[1:]))


@dataclass(frozen=True, eq=False)
class PixelScaler:
    """Takes each pixel to mean 0 and deviation 1 over the training crops.

    Attributes:
        mean: (P,) float64.
        deviation: (P,) float64; 1 where a pixel is the same in all crops.
        size: height and width of a crop.
        grey: whether pixels are luminance, not red, green and blue.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    size: tuple[int, int]
    grey: bool

    @classmethod
    def of(
        cls,
        mean: npt.NDArray[np.float64],
        variance: npt.NDArray[np.float64],
        size: tuple[int, int],
        *,
        grey: bool,
    ) -> Self:
        """From the mean (P,) and variance (P,) of the training crops' pixels."""
        deviation = np.sqrt(variance)
        return cls(mean, np.where(deviation > 0, deviation, 1.0), size, grey)

    def standardise(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Crops (N, H, W, 3) uint8 as (N, P) float32.

        Raises:
            ValueError: the crops are of another size.
        """
        if crops.shape[1:] != (*self.size, 3):
            raise ValueError(f"crops have shape {crops.shape}, expected (N, *{(*self.size, 3)})")
        pixels = flatten_crops(crops, grey=self.grey).astype(np.float32)
        pixels -= self.mean.astype(np.float32)
        pixels /= self.deviation.astype(np.float32)
        return pixels


@dataclass(frozen=True, eq=False)
class PixelProjection:
    """Embeds crops by a linear map of their standardised pixels.

    Attributes:
        scale: how pixels are standardised.
        components: (D, P) float32, the map; the most telling row first.
        cumulative_variance: (S,) float64, the n-th value is the share of the variance that the
            first n components hold; S is D or, where more were computed than kept, larger.
    """

    scale: PixelScaler
    components: npt.NDArray[np.float32]
    cumulative_variance: npt.NDArray[np.float64]

    def keep(self, components: float) -> Self:
        """The same with fewer components.

        Args:
            components: how many (int), or under 1 the share of the variance that they hold; all
                where there are no more than that.

        Raises:
            ValueError: `components` is neither.
        """
        count = self._count(components)
        return replace(self, components=self.components[:count])

    def embed(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings of crops (N, H, W, 3) uint8 as (N, D) float32.

        Raises:
            ValueError: the crops are not of the size that this was fitted to.
        """
        return self.scale.standardise(crops) @ self.components.T

    def _count(self, components: float) -> int:
        if 0 < components < 1:
            return 1 + int(np.searchsorted(self.cumulative_variance, components))
        if components < 1 or components != int(components):
            raise ValueError(
                f"components is {components}: expected a whole number, or a share under 1"
            )
        return int(components)
