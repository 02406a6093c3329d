"""Decode mask files to foreground and background."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from reidray.data.images.bit_depth import (
    DEPTHS,
    BitDepthError,
    LevelFormat,
    check_colours,
    read_level_format,
)
from reidray.data.images.pil_images import ImageDecodeError, open_image, turn_upright

WHITES = tuple((1 << bits) - 1 for bits in DEPTHS)
"""The value of white at each bit depth."""

_FOREGROUND, _BACKGROUND, _BORDER = 1, 2, 3


def decode_mask(
    data: bytes, shape: tuple[int, int], size: tuple[int, int] | None
) -> npt.NDArray[np.uint8]:
    """Decode the foreground of a mask file: a trimap of 1, 2 and 3, or 0 and 1, or 0 and 255.

    The border of a trimap (1 foreground, 2 background, 3 border) counts as foreground. The authors
    of the Pets left the border unclassified, but it covers fur and whiskers, and two classes are
    commonly trained on these trimaps as background and the rest.

    A palette of greys is read as greys, and a palette of colours by its indices. In a mask of 16 or
    32 bits, the largest number of a bit depth is read as 255, and so are 8-bit levels that are
    repeated in the lower 8 bits.

    Args:
        data: the bytes of the file.
        shape: the (height, width) of the image, upright, which the mask must have.
        size: the (height, width) of the result, by the nearest pixel; None keeps the mask's size.

    Returns:
        (H, W) uint8, 1 in the foreground and 0 elsewhere.

    Raises:
        ImageDecodeError: the file is no image, has another size, or holds other values.
    """
    with open_image(data) as image:
        stored = read_level_format(image, data)
        image.load()
        foreground = _foreground(_levels(turn_upright(image), stored))
    if foreground.shape != shape:
        found, expected = (f"{width} x {height}" for height, width in (foreground.shape, shape))
        raise ImageDecodeError(f"{found} pixels, expected {expected} as its image has")
    if size is None or size == shape:
        return foreground
    return np.array(Image.fromarray(foreground).resize(size[::-1], Image.Resampling.NEAREST))


def _foreground(levels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Return 1 in the foreground and 0 elsewhere, for (H, W) integer levels of a mask."""
    found = (
        np.flatnonzero(Image.fromarray(levels).histogram()).tolist()
        if levels.dtype == np.uint8
        else np.unique(levels).tolist()
    )
    if set(found) <= {_FOREGROUND, _BACKGROUND, _BORDER}:
        background = _BACKGROUND
    elif set(found) <= {0, 1} or set(found) <= {0, 255}:
        background = 0
    else:
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise ImageDecodeError(
            f"values {shown}, expected 1, 2 and 3 of a trimap, or 0 and 1, or 0 and 255"
        )
    foreground: npt.NDArray[np.uint8] = np.not_equal(levels, background).astype(np.uint8)
    return foreground


def _levels(image: Image.Image, stored: LevelFormat) -> npt.NDArray[np.integer]:
    """Return the channel of a mask, (H, W) uint8, or wider integers if 8 bits do not hold it."""
    if image.mode.startswith("I"):
        return _narrowed(np.asarray(image).astype(np.int64))
    try:
        check_colours(image, stored)
    except BitDepthError as error:
        raise ImageDecodeError(str(error)) from None
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.mode in ("P", "RGB"):
        red, green, blue = (np.array(band) for band in image.convert("RGB").split())
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return red
        if image.mode == "P":
            return np.array(image)
    raise ImageDecodeError(f"an image in mode {image.mode}, expected a mask of one grey channel")


def _narrowed(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
    """Return levels of 16 or 32 bits as 8 bits, if the mask allows it."""
    most = int(levels.max())
    if most in WHITES and np.isin(levels, (0, most)).all():
        return np.where(levels == most, 255, 0).astype(np.uint8)
    if (levels % 257 == 0).all():
        levels = levels // 257
    return levels.astype(np.uint8) if levels.min() >= 0 and levels.max() <= 255 else levels
