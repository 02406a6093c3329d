"""From the bytes of an image file to an array of pixels, whatever a camera or a person wrote."""

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from reidray.data.storage import Location
from reidray.errors import UserError

MAX_PIXELS = 64_000_000
"""The largest image that is decoded, in pixels: 192 MB as RGB."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_CONCURRENT_READS = 16

# Pillow warns from 89 million pixels on; such an image is refused below, by its header.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UndecodableImage(Exception):  # noqa: N818 - the field speaks of undecodable images
    """The bytes are not an image that can be used; the message is the reason."""


@dataclass(frozen=True)
class BadImage:
    """An image file that was passed over.

    Attributes:
        path: the path as it was asked for.
        reason: why, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class DecodedImages:
    """The images of a list that could be decoded, and those that could not.

    Attributes:
        crops: (N, H, W, 3) uint8 RGB.
        kept: for each crop the index of its path in the list.
        bad: the others.
    """

    crops: npt.NDArray[np.uint8]
    kept: tuple[int, ...]
    bad: tuple[BadImage, ...]


def decode_image(data: bytes, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """The pixels of an image file, upright as its EXIF orientation says.

    CMYK, palette, grey, 16-bit and transparent images (over white) all become RGB. A JPEG larger
    than asked for is decoded at a lower scale from the start.

    Args:
        data: the file's bytes; the format is told from them and not from a name.
        size: (height, width) to resize to, bilinear; None keeps the image's own.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UndecodableImage: the bytes are empty, cut off, not an image, or too large a one.
    """
    if not data:
        raise UndecodableImage("the file is empty")
    # Pillow's parsers raise errors of any kind on broken bytes; each means the same here.
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_pixels(image)
            upright = _decode(image, size)
    except (UndecodableImage, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise UndecodableImage(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UndecodableImage("not an image of a known format") from None
    except Exception as error:
        raise UndecodableImage(f"broken image ({error or type(error).__name__})") from None
    if size is not None and upright.size != size[::-1]:
        upright = upright.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(upright)


def decode_files(location: Location, paths: Sequence[str], size: tuple[int, int]) -> DecodedImages:
    """The images at these paths, resized to one size; files that are no images are set apart.

    Args:
        location: the folder the paths are relative to.
        paths: which images.
        size: (height, width) of the crops.

    Raises:
        UserError: a path leaves the folder.
        OSError: the disk or the object store failed.
    """
    crops = np.empty((len(paths), *size, 3), np.uint8)
    kept: list[int] = []
    bad: list[BadImage] = []

    def attempt(path: str) -> npt.NDArray[np.uint8] | BadImage:
        try:
            return decode_image(location.read_bytes(path), size)
        except UndecodableImage as error:
            return BadImage(path, str(error))
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            return BadImage(path, error.strerror or "no such file")

    with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
        results = threads.map(attempt, paths) if location.is_remote else map(attempt, paths)
        for index, result in enumerate(results):
            if isinstance(result, BadImage):
                bad.append(result)
            else:
                crops[len(kept)] = result
                kept.append(index)
    return DecodedImages(crops[: len(kept)], tuple(kept), tuple(bad))


def check_bad_images(bad: Sequence[BadImage], total: int, max_bad: float) -> None:
    """Go on if few enough images were bad.

    Args:
        bad: the images that could not be decoded.
        total: how many there were.
        max_bad: the share of them that may be bad, 0 to 1.

    Raises:
        UserError: more than that share is bad, or every image is.
    """
    if not bad or (len(bad) <= max_bad * total and len(bad) < total):
        return
    first = "; ".join(f"{image.path}: {image.reason}" for image in bad[:3])
    more = ", ..." if len(bad) > 3 else ""
    raise UserError(
        f"{len(bad)} of {total} images cannot be decoded, more than the share {max_bad:g} "
        f"that may be ({first}{more}); mend or remove them"
    )


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableImage(f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")


def _decode(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is not None and image.format == "JPEG":
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        image.draft(None, size if sideways else size[::-1])
    image.load()
    # A picture without EXIF, which most crops are, is spared a copy.
    return _to_rgb(ImageOps.exif_transpose(image) if image.getexif() else image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.int64) >> 8  # 16 bits, or 16 bits in an array of 32
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode == "F":
        raise UndecodableImage("pixels are floating-point numbers, expected 8 or 16 bits")
    return image.convert("RGB")
