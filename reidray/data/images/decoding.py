"""Decode image files of any format and colour to RGB pixels, and collect bad images."""

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from reidray.data.images.bit_depth import read_level_format
from reidray.data.images.jpeg import decode_plain_jpeg
from reidray.data.images.masks import decode_mask
from reidray.data.images.pil_images import (
    MAX_BYTES,
    MAX_PIXELS,
    ImageDecodeError,
    open_image,
    read_orientation,
    to_rgb,
    turn_upright,
)
from reidray.errors import UserError
from reidray.storage.local_disk import OutsideLinkError

NUM_EXAMPLES = 3
"""Bad images that a message names."""

_CONCURRENT_READS = 16
_SIDEWAYS = (5, 6, 7, 8)
_FILE_ERRORS = frozenset(
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
"""Errors of a single file, which make it a bad image. After any other error the job fails."""

_DECODING = Lock()
"""Lock so that one image is decoded at a time, as a large one takes a gigabyte."""

_Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]


class ImageSource(Protocol):
    """Read files by their paths, as `Location` and `JoinedFolders` do."""

    @property
    def is_remote(self) -> bool:
        """Return whether files are read from an object store, several at a time."""

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Return the contents of a file of at most `limit` bytes.

        Raises:
            OutsideLinkError: the path leaves the folder through a link.
            UserError: the path leaves the folder by its text.
            OSError: the file cannot be read.
        """


@dataclass(frozen=True)
class BadImage:
    """Hold an image file that does not decode.

    Attributes:
        path: the path of the file, as it was given.
        reason: the reason in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class DecodeResult:
    """Hold the images of a list that decode, and the bad ones.

    Attributes:
        crops: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8, 1 in the foreground; None if no masks were requested.
        kept: the index in the list of each crop.
        bad: the images that do not decode.
        contents: the SHA-256 of the file of each path; empty if it could not be read.
    """

    crops: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8] | None
    kept: tuple[int, ...]
    bad: tuple[BadImage, ...]
    contents: tuple[bytes, ...]


def decode_image(data: bytes, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Decode an image file to RGB pixels, upright by its EXIF orientation.

    CMYK, palette, grey, 16-bit and transparent images (over white) all become RGB; the module
    `bit_depth` scales levels of more than 8 bits. Of several images in a file, the first is
    decoded. A JPEG that is larger than `size` is decoded at a lower scale.

    Args:
        data: the bytes of the file, which show its format.
        size: the (height, width) of the result, resized bilinearly; None keeps the image's size.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageDecodeError: the file is empty, truncated, no image, or too large.
    """
    return _decode(data, size)[0]


def decode_files(
    location: ImageSource,
    paths: Sequence[str],
    size: tuple[int, int],
    masks: Sequence[str | None] | None = None,
    known: Callable[[bytes], bool] | None = None,
) -> DecodeResult:
    """Decode the images at some paths to one size, and collect bad images.

    A file that cannot be read while the disk works is a bad image too: one that is missing or
    forbidden, a folder, a pipe, a link out of the location, or a file of more than `MAX_BYTES`.

    Args:
        location: the folder, or the joined folders, to which the paths are relative.
        paths: the paths of the images.
        size: the (height, width) of the crops.
        masks: the path of the mask of each image. An image without a mask that decodes is bad.
        known: function that returns whether to skip a file, given its SHA-256. A skipped image is
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
            mask = None if masks is None else _decode_mask_at(location, masks[index], shape, size)
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
    """Check that the share of bad images is small enough.

    Args:
        bad: the images that do not decode.
        total: the number of all images.
        max_bad: the share of them that may be bad, 0 to 1.

    Raises:
        UserError: a larger share is bad, or every image is.
    """
    check_bad_share(len(bad), bad[:NUM_EXAMPLES], total, max_bad)


def check_bad_share(num_bad: int, examples: Sequence[BadImage], total: int, max_bad: float) -> None:
    """Check that the share of bad images is small enough, where not all of them are known by name.

    Args:
        num_bad: the number of images that do not decode.
        examples: the first of them, for the message.
        total: the number of all images.
        max_bad: the share of them that may be bad, 0 to 1.

    Raises:
        UserError: a larger share is bad, or every image is.
    """
    if not num_bad or (num_bad <= max_bad * total and num_bad < total):
        return
    first = "; ".join(f"{image.path}: {image.reason}" for image in examples)
    more = ", ..." if num_bad > len(examples) else ""
    limit = "and one at least must be"
    if num_bad < total:
        limit = f"more than the share `max_bad={max_bad:g}` allows"
    raise UserError(
        f"{num_bad} of {total} images cannot be decoded, {limit} ({first}{more}); mend or remove "
        "them"
    )


def _read(location: ImageSource, path: str) -> bytes:
    try:
        return location.read_bytes(path, MAX_BYTES)
    except OutsideLinkError:
        raise ImageDecodeError("a link that leaves the folder: see `follow_links`") from None
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.errno not in _FILE_ERRORS:
            raise
        raise ImageDecodeError(error.strerror or "No such file or directory") from None


def _decode_mask_at(
    location: ImageSource,
    path: str | None,
    shape: tuple[int, int],
    size: tuple[int, int],
) -> npt.NDArray[np.uint8]:
    """Decode the mask of an image with this height and width."""
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
    """Decode an image to a size; return it with its own height and width, both upright."""
    plain = decode_plain_jpeg(data, size, MAX_PIXELS)
    pixels, shape = plain if plain is not None else _decode_any(data, size)
    if size is None or pixels.shape[:2] == size:
        return pixels, shape
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(resized), shape


def _decode_any(
    data: bytes, size: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decode an image, no smaller than a size, with Pillow; return also its height and width."""
    with open_image(data) as image:
        width, height = image.size
        sideways = read_orientation(image) in _SIDEWAYS
        if size is not None and image.format == "JPEG":
            image.draft(None, size if sideways else size[::-1])
        levels = read_level_format(image, data)
        image.load()
        pixels = np.array(to_rgb(turn_upright(image), levels))
        scaled = image.format == "JPEG"
    shape = (width, height) if sideways else (height, width)
    return pixels, shape if scaled else pixels.shape[:2]
