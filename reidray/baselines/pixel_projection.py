"""Centre and scale the pixels of crops, and embed crops by linear maps of them."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

LUMA_SHIFT = 16
LUMA = np.array([19595, 38470, 7471], np.uint32)
"""ITU-R 601 weights of red, green and blue in 65,536ths, as in Pillow: integers stay integers."""


def flatten_crops(crops: npt.NDArray[np.uint8], *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """Return crops (N, H, W, 3) uint8 as rows (N, P) uint8.

    Args:
        crops: (N, H, W, 3) uint8.
        grey: Whether to use luminance; P is then H x W, else H x W x 3.

    Raises:
        ValueError: `crops` has another shape.
    """
    if crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"`crops` has shape {crops.shape}: expected (N, H, W, 3)")
    if grey:
        weighted = crops.astype(np.uint32) @ LUMA + (1 << (LUMA_SHIFT - 1))
        crops = (weighted >> LUMA_SHIFT).astype(np.uint8)
    return crops.reshape(len(crops), math.prod(crops.shape[1:]))


@dataclass(frozen=True, eq=False)
class PixelScaler:
    """Subtract the mean of each pixel over the training crops, and divide by a deviation.

    Attributes:
        mean: (P,) float64.
        deviation: (P,) float64 standard deviations; 1 where a pixel is the same in all crops. 1 for
            all pixels without standardising.
        size: Height and width of a crop in pixels.
        grey: Whether pixels are luminance instead of colours.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    size: tuple[int, int]
    grey: bool

    @classmethod
    def from_moments(
        cls,
        mean: npt.NDArray[np.float64],
        variance: npt.NDArray[np.float64],
        size: tuple[int, int],
        *,
        grey: bool,
        standardise: bool = True,
    ) -> Self:
        """Build a scaler from the mean (P,) and variance (P,) of the pixels of training crops.

        Without `standardise`, it subtracts the mean only.
        """
        deviation = np.sqrt(variance) if standardise else np.ones_like(variance)
        return cls(mean, np.where(deviation > 0, deviation, 1.0), size, grey)

    def transform(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the scaled pixels (N, P) float32 of crops (N, H, W, 3) uint8.

        Raises:
            ValueError: The crops have another size.
        """
        if crops.shape[1:] != (*self.size, 3):
            raise ValueError(f"`crops` has shape {crops.shape}: expected (N, *{(*self.size, 3)})")
        pixels = flatten_crops(crops, grey=self.grey).astype(np.float32)
        pixels -= self.mean.astype(np.float32)
        pixels /= self.deviation.astype(np.float32)
        return pixels

    def restore(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the crops (N, H, W, 3) uint8 of scaled pixels (N, P); luminance becomes grey."""
        values = (pixels * self.deviation + self.mean).round().clip(0, 255).astype(np.uint8)
        crops = values.reshape(len(values), *self.size, 1 if self.grey else 3)
        return crops.repeat(3, axis=3) if self.grey else crops


@dataclass(frozen=True, eq=False)
class PixelProjection:
    """Embed crops by a linear map of their scaled pixels.

    Attributes:
        scaler: Scaling of the pixels.
        components: (D, P) float32, the rows of the map, by descending variance.
        cumulative_variance: (S,) float64; value n - 1 is the share of the variance that the first n
            components hold. S exceeds D where more components were computed than kept.
    """

    scaler: PixelScaler
    components: npt.NDArray[np.float32]
    cumulative_variance: npt.NDArray[np.float64]

    def truncate(self, components: float) -> Self:
        """Return the projection to the first components.

        Args:
            components: Number of components, or below 1 the share of the variance that they have to
                hold; all where there are no more.

        Raises:
            ValueError: `components` is neither a positive whole number nor a share.
        """
        count = self._count(components)
        return replace(self, components=self.components[:count])

    def embed(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the embeddings (N, D) float32 of crops (N, H, W, 3) uint8.

        Raises:
            ValueError: The crops have another size than those that this was fitted to.
        """
        return self.scaler.transform(crops) @ self.components.T

    def _count(self, components: float) -> int:
        if 0 < components < 1:
            return 1 + int(np.searchsorted(self.cumulative_variance, components))
        if components < 1 or components != int(components):
            raise ValueError(
                f"`components` is {components}: expected a whole number, or a share below 1"
            )
        return int(components)
