"""From the bytes of a mask file to the foreground that somebody drew."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from reidray.data.pictures import UndecodableImage, open_picture, upright

_FOREGROUND, _BACKGROUND, _BORDER = 1, 2, 3


def decode_mask(
    data: bytes, shape: tuple[int, int], size: tuple[int, int] | None
) -> npt.NDArray[np.uint8]:
    """The foreground in a mask file: a trimap of 1, 2 and 3, or 0 and 1, or 0 and 255.

    A trimap (1 foreground, 2 background, 3 border) loses its border to the foreground. The authors
    of the Pets left the border unclassified; it is drawn over fur and whiskers, and who trains two
    classes on these trimaps commonly asks for what is not background.

    A palette of greys is read as greys, and one of colours by its indices.

    Args:
        data: the file's bytes.
        shape: (height, width) that the mask must have, upright: those of its image.
        size: (height, width) to resize to, nearest; None keeps the mask's own.

    Returns:
        (H, W) uint8, 1 where the foreground is and 0 elsewhere.

    Raises:
        UndecodableImage: the bytes are no image, one of another size, or hold other values.
    """
    with open_picture(data) as image:
        image.load()
        foreground = _foreground(_levels(upright(image)))
    if foreground.shape != shape:
        found, expected = (f"{width} x {height}" for height, width in (foreground.shape, shape))
        raise UndecodableImage(f"{found} pixels, expected {expected} as its image has")
    if size is None or size == shape:
        return foreground
    return np.array(Image.fromarray(foreground).resize(size[::-1], Image.Resampling.NEAREST))


def _foreground(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """1 where the foreground is in a mask of levels, (H, W) uint8."""
    found = np.flatnonzero(Image.fromarray(levels).histogram()).tolist()
    if set(found) <= {_FOREGROUND, _BACKGROUND, _BORDER}:
        background = _BACKGROUND
    elif set(found) <= {0, 1} or set(found) <= {0, 255}:
        background = 0
    else:
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise UndecodableImage(
            f"values {shown}, expected 1, 2 and 3 of a trimap, or 0 and 1, or 0 and 255"
        )
    return np.not_equal(levels, background).astype(np.uint8)


def _levels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The one channel of a mask, (H, W) uint8."""
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.mode in ("P", "RGB"):
        red, green, blue = (np.array(band) for band in image.convert("RGB").split())
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return red
        if image.mode == "P":
            return np.array(image)
    raise UndecodableImage(f"a picture in mode {image.mode}, expected a mask of one grey channel")
