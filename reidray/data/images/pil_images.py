"""Open image files with Pillow within limits, turn them upright, and convert them to RGB."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from reidray.data.images.bit_depth import (
    DEEP_MODES,
    BitDepthError,
    LevelFormat,
    check_colours,
    to_grey,
)
from reidray.data.images.image_formats import FORMATS, is_truncated_jpeg2000
from reidray.data.images.jpeg import too_many_scans

MAX_PIXELS = 64_000_000
"""Pixels of the largest image that is decoded: 192 MB as RGB."""

MAX_SIDE = 65_535
"""Pixels of the longest side that is decoded, as in JPEG: resizing takes memory by its length."""

MAX_BYTES = 8 * MAX_PIXELS
"""Bytes of the largest file that is read: four uncompressed channels of 16 bits."""

_COLOURS = frozenset(
    "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV".split()  # noqa: SIM905 - reads as a list
)
_COLOURS_SHOWN = "grey, RGB, CMYK or YCbCr"
_LONGEST_REASON = 200
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of large images, which `open_image` refuses by their headers, and of broken metadata,
# which do no harm.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageDecodeError(Exception):
    """Signal a file that is not an image that can be used, with the reason as the message."""


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Yield the image in some bytes, which the body of the `with` decodes.

    Raises:
        ImageDecodeError: the bytes are empty, cut off, not an image, or one that would cost too
            much memory or time.
    """
    if not data:
        raise ImageDecodeError("the file is empty")
    if too_many_scans(data):
        raise ImageDecodeError("a JPEG that paints over itself too often")
    if is_truncated_jpeg2000(data):
        raise ImageDecodeError("broken image (the end of the JPEG 2000 stream is missing)")
    # Pillow's parsers raise errors of any kind on broken bytes; each means the same here.
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise ImageDecodeError(
                    f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels, "
                    f"or than {MAX_SIDE:,} in a row"
                )
            yield image
    except (ImageDecodeError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise ImageDecodeError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageDecodeError("not an image of a known format") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageDecodeError(f"broken image ({reason[:_LONGEST_REASON]})") from None


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image: 1 is upright, 5 to 8 lie on their side.

    Raises:
        OSError: a PNG file is broken. Its pixels are decoded, as its EXIF data may follow them.
    """
    if image.format == "PNG":
        image.load()  # `getexif` would load it too, but would hide the error
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1  # as viewers do: the pixels are intact, and only the metadata are broken


def turn_upright(image: Image.Image) -> Image.Image:
    """Return an image turned upright by its EXIF orientation.

    `ImageOps.exif_transpose` also rewrites the EXIF data, and fails if they are broken.
    """
    turn = _TURNS.get(read_orientation(image))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, levels: LevelFormat) -> Image.Image:
    """Return an image as RGB of 8 bits, with transparent pixels over white.

    Args:
        image: the decoded image.
        levels: the format of its levels, as the file declares it.

    Raises:
        ImageDecodeError: the levels have no scale or would all become black, or the colour mode is
            unknown.
    """
    try:
        check_colours(image, levels)
        if image.mode == "RGB" and "transparency" not in image.info:
            return image
        if image.mode.startswith(DEEP_MODES):
            grey = to_grey(image, levels)
            if isinstance(image.info.get("transparency"), int):
                grey = np.where(np.asarray(image) == image.info["transparency"], 255, grey)
            return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    except BitDepthError as error:
        raise ImageDecodeError(str(error)) from None
    if image.mode not in _COLOURS:
        raise ImageDecodeError(f"colours in mode {image.mode}, expected one of {_COLOURS_SHOWN}")
    if image.has_transparency_data:
        plain = image.convert("LA") if image.mode == "La" else image
        rgba = plain.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
