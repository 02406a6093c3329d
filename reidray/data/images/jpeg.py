"""Decode common JPEG files with libjpeg-turbo: to the pixels of Pillow, but much faster."""

import numpy as np
import numpy.typing as npt
import simplejpeg

_SCALES = (8, 4, 2, 1)
_MOST_SCANS = 100


def too_many_scans(data: bytes) -> bool:
    """Return whether a JPEG has more scans than any encoder writes.

    The decoder paints the whole image for each scan, so that a few kilobytes would take minutes.
    """
    return data.startswith(b"\xff\xd8") and data.count(b"\xff\xda\0") > _MOST_SCANS


def decode_plain_jpeg(
    data: bytes, size: tuple[int, int] | None, max_pixels: int
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]] | None:
    """Decode an intact JPEG without EXIF data, in colour or grey.

    Args:
        data: the bytes of the file.
        size: the requested (height, width). The image is decoded at the smallest of the scales 1,
            1/2, 1/4 and 1/8 at which it is no smaller. None decodes it at full scale.
        max_pixels: the number of pixels up to which an image is decoded.

    Returns:
        (h, w, 3) uint8 RGB at that scale, and the image's own height and width. None for any other
        file, such as a broken JPEG, one in CMYK or one with EXIF data.
    """
    if not data.startswith(b"\xff\xd8\xff") or b"Exif" in data or too_many_scans(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > max_pixels or colours not in ("YCbCr", "RGB", "Gray"):
            return None
        scale = 1
        if size is not None:
            max_scale = min(height // size[0], width // size[1])
            scale = next((scale for scale in _SCALES if scale <= max_scale), 1)
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // scale), min_width=-(-width // scale)
        )
    except ValueError:
        return None
    return pixels, (height, width)
