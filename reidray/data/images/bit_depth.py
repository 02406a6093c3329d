"""Convert grey levels of any bit depth, and floating-point levels, to 8 bits.

The bit depth is the one that the file declares: in TIFF by `BitsPerSample` or by `SMaxSampleValue`
and `MaxSampleValue`, in PNG by `sBIT`. If the file declares none, or holds brighter pixels, it is
the smallest of `DEPTHS` that holds the brightest pixel, as cameras write 10, 12 and 14 bits into
16, and some programs write 8 bits into 32. The rule depends on the one image alone, so that an
image always gives the same pixels.
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

DEEP_MODES = ("I", "F")
"""Prefixes of the names of modes of more than 8 bits in Pillow."""

DEPTHS = (8, 10, 12, 14, 16, 24, 32)
"""Bit depths that cameras and programs write."""

_TWELVE_OF_SIXTEEN = 16
"""The brightest level of 12 bits in 16, if only the upper 8 bits are read."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_MAXIMUM_TAGS = (341, 281)
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED, _SEPARATE = 0, 1, 2, 2


class BitDepthError(ValueError):
    """Signal levels that cannot be converted to 8 bits, with the reason as the message."""


@dataclass(frozen=True)
class LevelFormat:
    """Hold the format of the levels that a file declares.

    Attributes:
        bits: the bits of a level; 0 if the file declares none.
        maximum: the level of white; 0 if the file declares none.
        stored: the bits of a level in the file; 0 if unknown.
        white_is_zero: whether high levels are dark.
        sign: whether integer levels are signed; None if the file does not declare it.
        planes: whether each colour is stored in a plane of its own.
    """

    bits: int = 0
    maximum: float = 0.0
    stored: int = 0
    white_is_zero: bool = False
    sign: bool | None = None
    planes: bool = False

    @property
    def declared(self) -> int:
        """Return the bit depth that the file declares; 0 if it declares none."""
        return self.bits or (_depth_of(self.maximum) if self.maximum else 0)


def read_level_format(image: Image.Image, data: bytes) -> LevelFormat:
    """Return the format of the levels that an image file declares.

    Args:
        image: the opened file.
        data: the bytes of the file.
    """
    if image.format == "PNG":
        return LevelFormat(bits=_significant_bits(data), stored=data[24])
    if image.format == "PPM":
        return LevelFormat(stored=16 if _maximum_of_ppm(image) > 255 else 8)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return LevelFormat()
    tags = image.tag_v2
    stored = int(_first(tags.get(_BITS_PER_SAMPLE, 0)))
    declared = [float(_first(tags[tag])) for tag in _MAXIMUM_TAGS if tag in tags]
    return LevelFormat(
        bits=stored if stored not in (16, 32) else 0,
        maximum=next((value for value in declared if np.isfinite(value) and value > 0), 0.0),
        stored=stored,
        white_is_zero=_first(tags.get(_PHOTOMETRIC, 1)) == _WHITE_IS_ZERO,
        sign={_UNSIGNED: False, _SIGNED: True}.get(int(_first(tags.get(_SAMPLE_FORMAT, 1)))),
        planes=_first(tags.get(_PLANES, 1)) == _SEPARATE,
    )


def to_grey(image: Image.Image, levels: LevelFormat) -> npt.NDArray[np.uint8]:
    """Return the levels of an image in one of the modes I and F as 8 bits, (H, W) uint8.

    Raises:
        BitDepthError: the levels are negative, not finite, or all 0 as floating-point numbers.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f":
        grey = _from_floats(values, levels)
    else:
        if levels.sign is False and values.dtype == np.int32:
            values = values.view(np.uint32)
        if values.min() < 0:
            raise BitDepthError("levels below 0, expected 0 for black")
        grey = (values >> (_bits_of(values, levels) - 8)).astype(np.uint8)
    return 255 - grey if levels.white_is_zero else grey


def check_colours(image: Image.Image, levels: LevelFormat) -> None:
    """Check that Pillow, which reads the upper 8 bits of 16-bit colours, reads them correctly.

    Raises:
        BitDepthError: the colours use fewer than 16 bits and would become black, or each colour has
            a plane of its own, in which Pillow takes every byte for a level.
    """
    if levels.stored != 16 or image.mode.startswith(DEEP_MODES):
        return
    if levels.planes:
        raise BitDepthError(
            "colours of 16 bits, each stored by itself: write the colours of a pixel side by side"
        )
    brightest = max(
        high
        for name, (_, high) in zip(image.getbands(), _extrema(image), strict=True)
        if name not in ("A", "a")
    )
    fits_declared = 8 < levels.declared < 16 and brightest < 1 << (levels.declared - 8)
    if brightest <= _TWELVE_OF_SIXTEEN or fits_declared:
        raise BitDepthError(
            f"colours of 16 bits of which the brightest is {brightest / 255:.1%} of white: write "
            "8 bits, or use all 16"
        )


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Return the lowest and highest level of each channel."""
    found = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]  # type: ignore[list-item]


def _significant_bits(data: bytes) -> int:
    """Return the number in the chunk sBIT of a PNG file; 0 if it has none."""
    offset = 8
    while offset + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name == b"sBIT" and length:
            return data[offset + 8]
        if name in (b"IDAT", b"IEND"):
            break
        offset += 12 + length
    return 0


def _maximum_of_ppm(image: Image.Image) -> int:
    """Return the level of white in a PPM file that Pillow scales to 8 bits; 255 in others."""
    given = image.tile[0].args if image.tile else ()  # type: ignore[attr-defined]
    numbers = given if isinstance(given, tuple) else (given,)
    return next((number for number in numbers[1:] if isinstance(number, int)), 255)


def _bits_of(values: npt.NDArray[np.integer], levels: LevelFormat) -> int:
    """Return the bit depth of integer levels."""
    brightest, declared = int(values.max()), levels.declared
    found = _depth_of(brightest)
    believed = brightest < 1 << declared and not declared > 16 >= found
    if declared and believed:
        return max(declared, 8)
    if found == 14 and _is_widened(values):
        return 16
    return min(found, levels.stored - 1) if levels.sign and found > 14 else found


def _depth_of(brightest: float) -> int:
    """Return the smallest bit depth that holds a level."""
    return next((bits for bits in DEPTHS if brightest < 1 << bits), DEPTHS[-1])


def _is_widened(values: npt.NDArray[np.integer]) -> bool:
    """Return whether levels of 16 bits repeat their upper 8 bits, or 0, in the lower 8 bits."""
    low = values & 255
    return bool((low == 0).all() or (low == values >> 8).all())


def _from_floats(values: npt.NDArray[np.floating], levels: LevelFormat) -> npt.NDArray[np.uint8]:
    """Convert floating-point levels, from 0 to 1 or to the maximum of a bit depth, to 8 bits."""
    kind = "pixels are floating-point numbers"
    if not np.isfinite(values).all():
        raise BitDepthError(f"{kind}, and some are not finite")
    brightest = float(values.max())
    if values.min() < 0:
        raise BitDepthError(f"{kind}, and some are below 0")
    if brightest == 0:
        raise BitDepthError(f"{kind}, and all are 0, so that nothing tells their scale")
    white = levels.maximum
    if brightest > white:
        white = 1.0 if brightest <= 1 else float((1 << _depth_of(brightest)) - 1)
    return (values * (255 / white)).round().clip(0, 255).astype(np.uint8)


def _first(value: object) -> float:
    """Return the first number of a TIFF tag, or its only one."""
    number: float = value[0] if isinstance(value, tuple) else value  # type: ignore[assignment]
    return number
