"""From the bytes of an image file to an array of pixels, whatever a camera or a person wrote."""

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image

from reidray.data.images.bit_depth import read_levels
from reidray.data.images.jpeg import decode_plain_jpeg
from reidray.data.images.masks import decode_mask
from reidray.data.images.pil_images import (
    MAX_BYTES,
    MAX_PIXELS,
    ImageDecodeError,
    open_image,
    orientation,
    to_rgb,
    upright,
)
from reidray.errors import UserError
from reidray.storage.local_disk import OutsideLinkError
from reidray.storage.location import Location

_CONCURRENT_READS = 16
_SIDEWAYS = (5, 6, 7, 8)
_OF_THE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EPERM,
        errno.ESTALE,
    }
)
"""Why a file cannot be read while the disk works; of anything else the job must fail."""

_DECODING = Lock()
"""One image at a time, however many are being read: a large one takes a gigabyte."""

_Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]


@dataclass(frozen=True)
class BadImage:
    """An image file that was skipped.

    Attributes:
        path: the path as it was asked for.
        reason: why, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class DecodeResult:
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

    CMYK, palette, grey, 16-bit and transparent images (over white) all become RGB; the module
    `depth` has the rule for levels of more than 8 bits. Of several pictures in a file the first is
    decoded. A JPEG larger than asked for is decoded at a lower scale from the start.

    Args:
        data: the file's bytes; the format is told from them and not from a name.
        size: (height, width) to resize to, bilinear; None keeps the image's own.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageDecodeError: the bytes are empty, cut off, not an image, or too large a one.
    """
    return _decode(data, size)[0]


def decode_files(
    location: Location,
    paths: Sequence[str],
    size: tuple[int, int],
    masks: Sequence[str | None] | None = None,
    known: Callable[[bytes], bool] | None = None,
) -> DecodeResult:
    """The images at these paths, resized to one size; files that are no images are set apart.

    So is what cannot be read while the disk works: a file that is gone or forbidden, a folder, a
    pipe, a link that leaves the location, anything of more than `MAX_BYTES`.

    Args:
        location: the folder the paths are relative to.
        paths: which images.
        size: (height, width) of the crops.
        masks: the mask of each image, decoded beside it; an image without a usable mask is set
            apart.
        known: tells, by the SHA-256 of a file, whether it need not be decoded; such an image is
            neither kept nor bad.

    Raises:
        UserError: a path leaves the folder by its text.
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
            with _DECODING:
                crop, shape = _decode(data, size)
            mask = None if masks is None else _decode_beside(location, masks[index], shape, size)
        except ImageDecodeError as error:
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
    return DecodeResult(crops[: len(kept)], foregrounds, tuple(kept), tuple(bad), tuple(contents))


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
        return location.read_bytes(path, MAX_BYTES)
    except OutsideLinkError:
        raise ImageDecodeError("a link that leaves the folder: see `follow_links`") from None
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.errno not in _OF_THE_FILE:
            raise
        raise ImageDecodeError(error.strerror or "No such file or directory") from None


def _decode_beside(
    location: Location, path: str | None, shape: tuple[int, int], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The mask of an image of this height and width."""
    if path is None:
        raise ImageDecodeError("it has no mask")
    try:
        data = _read(location, path)
        with _DECODING:
            return decode_mask(data, shape, size)
    except ImageDecodeError as error:
        raise ImageDecodeError(f"mask {path}: {error}") from None


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
    with open_image(data) as image:
        width, height = image.size
        sideways = orientation(image) in _SIDEWAYS
        if size is not None and image.format == "JPEG":
            image.draft(None, size if sideways else size[::-1])
        levels = read_levels(image, data)
        image.load()
        pixels = np.array(to_rgb(upright(image), levels))
        scaled = image.format == "JPEG"
    shape = (width, height) if sideways else (height, width)
    return pixels, shape if scaled else pixels.shape[:2]
