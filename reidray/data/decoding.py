"""From the bytes of an image file to an array of pixels, whatever a camera or a person wrote."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from reidray.data.jpeg import decode_plain_jpeg
from reidray.data.storage import Location
from reidray.errors import UserError

MAX_PIXELS = 64_000_000
"""The largest image that is decoded, in pixels: 192 MB as RGB."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_CONCURRENT_READS = 16
_SIDEWAYS = (5, 6, 7, 8)
_FOREGROUND, _BACKGROUND, _BORDER = 1, 2, 3

_Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]

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
        masks: (N, H, W) uint8, 1 where the foreground is; None where none were asked for.
        kept: for each crop the index of its path in the list.
        bad: those that could not.
        contents: for each path the SHA-256 of its file; empty where it could not be read.
    """

    crops: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8] | None
    kept: tuple[int, ...]
    bad: tuple[BadImage, ...]
    contents: tuple[bytes, ...]


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
    return _decode(data, size)[0]


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
    with _open(data) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        foreground = _foreground(_levels(upright))
    if foreground.shape != shape:
        found, expected = (f"{width} x {height}" for height, width in (foreground.shape, shape))
        raise UndecodableImage(f"{found} pixels, expected {expected} as its image has")
    if size is None or size == shape:
        return foreground
    return np.array(Image.fromarray(foreground).resize(size[::-1], Image.Resampling.NEAREST))


def decode_files(
    location: Location,
    paths: Sequence[str],
    size: tuple[int, int],
    masks: Sequence[str | None] | None = None,
    known: Callable[[bytes], bool] | None = None,
) -> DecodedImages:
    """The images at these paths, resized to one size; files that are no images are set apart.

    Args:
        location: the folder the paths are relative to.
        paths: which images.
        size: (height, width) of the crops.
        masks: the mask of each image, decoded beside it; an image without a usable mask is set
            apart.
        known: tells, by the SHA-256 of a file, whether it need not be decoded; such an image is
            neither kept nor bad.

    Raises:
        UserError: a path leaves the folder.
        OSError: the disk or the object store failed.
    """
    crops = np.empty((len(paths), *size, 3), np.uint8)
    foregrounds = None if masks is None else np.empty((len(paths), *size), np.uint8)
    kept: list[int] = []
    bad: list[BadImage] = []
    contents = [b""] * len(paths)

    def attempt(index: int) -> _Decoded | BadImage | None:
        try:
            data = _read(location, paths[index])
            contents[index] = sha256(data).digest()
            if known is not None and known(contents[index]):
                return None
            crop, shape = _decode(data, size)
            mask = None if masks is None else _decode_beside(location, masks[index], shape, size)
        except UndecodableImage as error:
            return BadImage(paths[index], str(error))
        return crop, mask

    with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
        apply = threads.map if location.is_remote else map
        for index, result in enumerate(apply(attempt, range(len(paths)))):
            if isinstance(result, BadImage):
                bad.append(result)
            if result is None or isinstance(result, BadImage):
                continue
            crops[len(kept)], mask = result
            if foregrounds is not None and mask is not None:
                foregrounds[len(kept)] = mask
            kept.append(index)
    foregrounds = None if foregrounds is None else foregrounds[: len(kept)]
    return DecodedImages(crops[: len(kept)], foregrounds, tuple(kept), tuple(bad), tuple(contents))


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


def _read(location: Location, path: str) -> bytes:
    try:
        return location.read_bytes(path)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UndecodableImage(error.strerror or "no such file") from None


def _decode_beside(
    location: Location, path: str | None, shape: tuple[int, int], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The mask of an image of this height and width."""
    if path is None:
        raise UndecodableImage("it has no mask")
    try:
        return decode_mask(_read(location, path), shape, size)
    except UndecodableImage as error:
        raise UndecodableImage(f"mask {path}: {error}") from None


@contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    """The image in these bytes, which the body of the `with` decodes."""
    if not data:
        raise UndecodableImage("the file is empty")
    # Pillow's parsers raise errors of any kind on broken bytes; each means the same here.
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UndecodableImage(
                    f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels"
                )
            yield image
    except (UndecodableImage, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise UndecodableImage(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UndecodableImage("not an image of a known format") from None
    except Exception as error:
        raise UndecodableImage(f"broken image ({error or type(error).__name__})") from None


def _decode(
    data: bytes, size: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """The image in the size asked for, and its own height and width, both upright."""
    plain = decode_plain_jpeg(data, size, MAX_PIXELS)
    pixels, shape = plain if plain is not None else _decode_any(data, size)
    if size is None or pixels.shape[:2] == size:
        return pixels, shape
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(resized), shape


def _decode_any(
    data: bytes, size: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """The image, no smaller than the size asked for, and its own height and width, both upright."""
    with _open(data) as image:
        width, height = image.size
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in _SIDEWAYS
        if size is not None and image.format == "JPEG":
            image.draft(None, size if sideways else size[::-1])
        image.load()
        upright = _to_rgb(ImageOps.exif_transpose(image) if image.getexif() else image)
    return np.array(upright), (width, height) if sideways else (height, width)


def _foreground(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """1 where the foreground is in a mask of levels, (H, W) uint8."""
    found = np.flatnonzero(np.bincount(levels.ravel())).tolist()
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
