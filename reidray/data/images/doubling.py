"""Enlarge an image to twice its height and width."""

import numpy as np
from numpy.typing import NDArray

_PIXEL = np.dtype("V3")


def double(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of twice the height and width, bilinearly, with the pixels of Pillow.

    Many crops have 128x64 pixels and many networks take 256x128. Each new value is then
    `(3a + b) / 4` of the nearest value a and the one beside it, b, rounded: first along the rows,
    then along the columns. Pillow's general way takes four times as long.

    Args:
        pixels: (H, W, 3) uint8, contiguous.

    Returns:
        (2H, 2W, 3) uint8.
    """
    height, width, _ = pixels.shape
    values = pixels.reshape(height, -1).astype(np.uint16)
    wide = np.empty((height, width, 2, 3), np.uint8)
    wide[:, 0, 0], wide[:, -1, 1] = pixels[:, 0], pixels[:, -1]
    # NumPy copies whole pixels much faster than their values one by one.
    halves = wide.view(_PIXEL)[..., 0]
    halves[:, :-1, 1] = _as_pixels(_mix(values[:, :-3], values[:, 3:]))
    halves[:, 1:, 0] = _as_pixels(_mix(values[:, 3:], values[:, :-3]))

    values = wide.reshape(height, -1).astype(np.uint16)
    result = np.empty((2 * height, 6 * width), np.uint8)
    result[0], result[-1] = values[0], values[-1]
    result[1:-1:2] = _mix(values[:-1], values[1:])
    result[2::2] = _mix(values[1:], values[:-1])
    return result.reshape(2 * height, 2 * width, 3)


def _mix(near: NDArray[np.uint16], far: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return `(3 near + far) / 4`, rounded to the nearest whole number, half upwards."""
    return ((3 * near + far + 2) >> 2).astype(np.uint8)


def _as_pixels(values: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return rows of values (H, 3W) as rows of pixels (H, W)."""
    height, length = values.shape
    return values.reshape(height, length // 3, 3).view(_PIXEL)[..., 0]
