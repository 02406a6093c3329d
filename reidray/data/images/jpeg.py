"""JPEG files as nearly all are, through libjpeg-turbo: the same pixels as Pillow's, much sooner."""

import numpy as np
import numpy.typing as npt
import simplejpeg

_SCALES = (8, 4, 2, 1)
_MOST_SCANS = 100


def too_many_scans(data: bytes) -> bool:
    """Tell whether a JPEG comes in more scans than any encoder makes.

    Each paints over the whole image, so that a few kilobytes of them would take minutes.
    """
    return data.startswith(b"\xff\xd8") and data.count(b"\xff\xda\0") > _MOST_SCANS


def decode_plain_jpeg(
    data: bytes, size: tuple[int, int] | None, max_pixels: int
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]] | None:
    """The pixels of a whole, upright JPEG in colour or grey, and how large it is.

    Args:
        data: the file's bytes.
        size: (height, width) it is wanted in: it is decoded at the smallest of the scales 1, 1/2,
            1/4 and 1/8 that is no smaller. None decodes all of it.
        max_pixels: more are not decoded.

    Returns:
        (h, w, 3) uint8 RGB at that scale, and the image's own height and width. None where the
        bytes are anything else, be it a broken JPEG, one in CMYK or one with EXIF data.
    """
    if not data.startswith(b"\xff\xd8\xff") or b"Exif" in data or too_many_scans(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > max_pixels or colours not in ("YCbCr", "RGB", "Gray"):
            return None
        scale = 1
        if size is not None:
            spare = min(height // size[0], width // size[1])
            scale = next((scale for scale in _SCALES if scale <= spare), 1)
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // scale), min_width=-(-width // scale)
        )
    except ValueError:
        return None
    return pixels, (height, width)
