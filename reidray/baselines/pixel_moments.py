"""Sums over pixels and their products: all that principal components need of a set of crops."""

import numpy as np
import numpy.typing as npt

from reidray.baselines.pixel_projection import flatten_crops
from reidray.config.parts import MAX_BASELINE_PIXELS

SUMMED_AT_ONCE = 1024


class PixelMoments:
    """Count, sums and sums of products of the pixels of crops.

    Pixels are whole numbers and sums of 138 billion of their products stay below 2**53, so that
    float64 holds each exactly: whichever order and division into parts, the sums are the same bit
    by bit. scikit-learn's IncrementalPCA truncates after each batch instead: it is approximate,
    takes batches one after the other, and depends on their order.

    Attributes:
        size: height and width of a crop.
        grey: whether pixels are luminance.
        count: crops summed.
        sums: (P,) float64.
        products: (P, P) float64.
    """

    def __init__(self, size: tuple[int, int], *, grey: bool = False) -> None:
        """Nothing summed yet.

        Raises:
            ValueError: there are too many pixels.
        """
        pixels = size[0] * size[1] * (1 if grey else 3)
        if pixels > MAX_BASELINE_PIXELS:
            raise ValueError(
                f"size is {size[0]}x{size[1]}: {pixels:,} values a crop, expected at most "
                f"{MAX_BASELINE_PIXELS:,}"
            )
        self.size, self.grey, self.count = size, grey, 0
        self.sums = np.zeros(pixels)
        self.products = np.zeros((pixels, pixels))

    def add(self, crops: npt.NDArray[np.uint8]) -> None:
        """Sum up crops (N, H, W, 3) uint8 of this size."""
        pixels = flatten_crops(crops, grey=self.grey)
        for start in range(0, len(pixels), SUMMED_AT_ONCE):
            rows = pixels[start : start + SUMMED_AT_ONCE].astype(np.float64)
            self.sums += rows.sum(axis=0)
            self.products += rows.T @ rows
        self.count += len(pixels)

    def merge(
        self,
        count: int,
        sums: npt.NDArray[np.float64],
        products: npt.NDArray[np.float64],
    ) -> None:
        """Take in what was summed elsewhere: `count`, `sums` (P,) and `products` (P, P)."""
        self.count += count
        self.sums += sums
        self.products += products

    def mean_and_covariance(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean (P,) float64 and covariance (P, P) float64, both over the count.

        Raises:
            ValueError: fewer than two crops were summed.
        """
        if self.count < 2:
            raise ValueError(f"moments are of {self.count} crops: expected two or more")
        mean = self.sums / self.count
        covariance = self.products / self.count
        covariance -= np.outer(mean, mean)
        return mean, covariance
