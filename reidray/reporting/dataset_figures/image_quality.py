"""Measure the brightness, the contrast and the sharpness of crops."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""

BLOCK = 64
"""Crops that are measured at once, which bounds the memory of their luminance."""


@dataclass(frozen=True, eq=False)
class ImageQuality:
    """Hold the quality of N crops.

    Attributes:
        brightness: (N,) float64, mean of the luminance, 0 to 255.
        contrast: (N,) float64, standard deviation of the luminance.
        sharpness: (N,) float64, variance of the Laplacian of the luminance.
    """

    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]


def measure_quality(crops: NDArray[np.uint8]) -> ImageQuality:
    """Measure the quality of crops.

    The Laplacian of a pixel is the sum of its four neighbours less four times the pixel. Edges make
    its variance large, and a blurred image has few (Pech-Pacheco et al. 2000).

    >>> flat, striped = np.full((8, 8, 3), 90, np.uint8), np.full((8, 8, 3), 90, np.uint8)
    >>> striped[:, ::2] = 110
    >>> found = measure_quality(np.stack([flat, striped]))
    >>> found.brightness.round().tolist(), found.contrast.round().tolist()
    ([90.0, 100.0], [0.0, 10.0])
    >>> found.sharpness.round().tolist()
    [0.0, 1600.0]

    Args:
        crops: (N, H, W, 3) uint8, of 3 pixels or more either way.
    """
    columns = [_measure(crops[start : start + BLOCK]) for start in range(0, len(crops), BLOCK)]
    empty = np.zeros((3, 0))
    return ImageQuality(*np.concatenate([empty, *columns], axis=1))


def _measure(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return brightness, contrast and sharpness, (3, N) float64."""
    grey = crops @ LUMINANCE
    middle = grey[:, 1:-1, 1:-1]
    across = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = across + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] - 4 * middle
    pixels, edges = (each.reshape(len(each), -1).astype(np.float64) for each in (grey, laplacian))
    return np.stack([pixels.mean(axis=1), pixels.std(axis=1), edges.var(axis=1)])
