"""Sum the pixels of crops and their products, from which principal components are computed."""

import numpy as np
import numpy.typing as npt

from reidray.baselines.pixel_projection import flatten_crops
from reidray.config.sections.limits import MAX_BASELINE_PIXELS

CROPS_AT_ONCE = 1024


class PixelMoments:
    """Accumulate count, sums and sums of products of the pixels of crops.

    Pixels are integers, and sums of 138 billion of their products stay below 2**53, so float64
    holds them exactly: the sums are the same bits for any order and any division into parts.
    scikit-learn's IncrementalPCA truncates after each batch instead. It is approximate, processes
    batches one after the other, and depends on their order.

    Args:
        size: Height and width of a crop in pixels.
        grey: Whether to use luminance instead of colours.

    Attributes:
        size: Height and width of a crop in pixels.
        grey: Whether pixels are luminance.
        count: Number of crops summed.
        sums: (P,) float64, sums of the pixels.
        products: (P, P) float64, sums of the products of two pixels.

    Raises:
        ValueError: A crop has too many pixels.
    """

    def __init__(self, size: tuple[int, int], *, grey: bool = False) -> None:
        pixels = size[0] * size[1] * (1 if grey else 3)
        if pixels > MAX_BASELINE_PIXELS:
            raise ValueError(
                f"`size` is {size[0]}x{size[1]}, {pixels:,} values a crop: expected at most "
                f"{MAX_BASELINE_PIXELS:,}"
            )
        self.size, self.grey, self.count = size, grey, 0
        self.sums = np.zeros(pixels)
        self.products = np.zeros((pixels, pixels))

    def add(self, crops: npt.NDArray[np.uint8]) -> None:
        """Add crops (N, H, W, 3) uint8 of this size."""
        pixels = flatten_crops(crops, grey=self.grey)
        for start in range(0, len(pixels), CROPS_AT_ONCE):
            rows = pixels[start : start + CROPS_AT_ONCE].astype(np.float64)
            self.sums += rows.sum(axis=0)
            self.products += rows.T @ rows
        self.count += len(pixels)

    def merge(
        self,
        count: int,
        sums: npt.NDArray[np.float64],
        products: npt.NDArray[np.float64],
    ) -> None:
        """Add the `count`, `sums` (P,) and `products` (P, P) of other crops."""
        self.count += count
        self.sums += sums
        self.products += products

    def mean_and_covariance(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mean (P,) and the covariance (P, P), both float64 and divided by the count.

        Raises:
            ValueError: Fewer than two crops were summed.
        """
        if self.count < 2:
            raise ValueError(f"`moments` has {self.count} crops: expected two or more")
        mean = self.sums / self.count
        covariance = self.products / self.count
        covariance -= np.outer(mean, mean)
        return mean, covariance
