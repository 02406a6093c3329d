"""Levels of grey of any depth as 8 bits: of 16 or 32 bits, of fewer in these, and of fractions.

The depth is what the file declares: the bits of a level in a TIFF file (`BitsPerSample` of 12, or
`SMaxSampleValue` and `MaxSampleValue`), or the significant ones in a PNG file (`sBIT`). Where it
declares none, or holds more than it declares, the depth is the smallest of `DEPTHS` that holds the
brightest pixel: cameras of 10, 12 and 14 bits write them into 16, and some programs write 8 into
32. The rule looks at one image alone, so that an image always gives the same pixels.
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

DEEP_MODES = ("I", "F")
"""Beginnings of the names of Pillow's modes of more than 8 bits."""

DEPTHS = (8, 10, 12, 14, 16, 24, 32)
"""Bits of a level that cameras and programs write."""

_TWELVE_OF_SIXTEEN = 16
"""The brightest that remains of 12 bits in 16 where the upper 8 are read."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_MAXIMUM_TAGS = (341, 281)
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED, _SEPARATE = 0, 1, 2, 2


class BitDepthError(ValueError):
    """Levels that no depth makes a picture of; the message says why, in a few words."""


@dataclass(frozen=True)
class Levels:
    """Hold what a file says of its levels.

    Attributes:
        bits: of a level; 0 where the file declares none.
        maximum: the number that stands for white; 0 where the file declares none.
        stored: bits that a level takes in the file; 0 where unknown.
        white_is_zero: whether dark levels are high.
        sign: whether integer levels have one; None where the file does not say.
        planes: whether each colour is stored by itself.
    """

    bits: int = 0
    maximum: float = 0.0
    stored: int = 0
    white_is_zero: bool = False
    sign: bool | None = None
    planes: bool = False

    @property
    def declared(self) -> int:
        """Bits of a level as the file declares them; 0 where it does not."""
        return self.bits or (_depth_of(self.maximum) if self.maximum else 0)


def read_levels(image: Image.Image, data: bytes) -> Levels:
    """Return what a file says of its levels.

    Args:
        image: the file, opened.
        data: the file's bytes.
    """
    if image.format == "PNG":
        return Levels(bits=_significant_bits(data), stored=data[24])
    if image.format == "PPM":
        return Levels(stored=16 if _maximum_of_map(image) > 255 else 8)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return Levels()
    tags = image.tag_v2
    stored = int(_first(tags.get(_BITS_PER_SAMPLE, 0)))
    declared = [float(_first(tags[tag])) for tag in _MAXIMUM_TAGS if tag in tags]
    return Levels(
        bits=stored if stored not in (16, 32) else 0,
        maximum=next((value for value in declared if np.isfinite(value) and value > 0), 0.0),
        stored=stored,
        white_is_zero=_first(tags.get(_PHOTOMETRIC, 1)) == _WHITE_IS_ZERO,
        sign={_UNSIGNED: False, _SIGNED: True}.get(int(_first(tags.get(_SAMPLE_FORMAT, 1)))),
        planes=_first(tags.get(_PLANES, 1)) == _SEPARATE,
    )


def grey_of(image: Image.Image, levels: Levels) -> npt.NDArray[np.uint8]:
    """Return the levels of an image in one of the modes I and F as 8 bits, (H, W) uint8.

    Raises:
        BitDepthError: they are negative, not finite, or fractions that are all 0.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f":
        grey = _from_fractions(values, levels)
    else:
        if levels.sign is False and values.dtype == np.int32:
            values = values.view(np.uint32)
        if values.min() < 0:
            raise BitDepthError("levels below 0, expected 0 for black")
        grey = (values >> (_bits_of(values, levels) - 8)).astype(np.uint8)
    return 255 - grey if levels.white_is_zero else grey


def check_colours(image: Image.Image, levels: Levels) -> None:
    """Refuse colours of 16 bits that come out black, as their upper 8 bits are read, or wrong.

    Raises:
        BitDepthError: fewer than 16 bits of them are used, or each colour is stored by
            itself, of which Pillow takes every byte for a level.
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
    """The lowest and highest level of each channel."""
    found = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]  # type: ignore[list-item]


def _significant_bits(data: bytes) -> int:
    """The number in a PNG file's chunk sBIT; 0 where it has none."""
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"sBIT" and length:
            return data[place + 8]
        if name in (b"IDAT", b"IEND"):
            break
        place += 12 + length
    return 0


def _maximum_of_map(image: Image.Image) -> int:
    """The level of white in a portable map that Pillow scales to 8 bits; 255 in others."""
    given = image.tile[0].args if image.tile else ()  # type: ignore[attr-defined]
    numbers = given if isinstance(given, tuple) else (given,)
    return next((number for number in numbers[1:] if isinstance(number, int)), 255)


def _bits_of(values: npt.NDArray[np.integer], levels: Levels) -> int:
    """Return the number of bits of a level."""
    brightest, declared = int(values.max()), levels.declared
    found = _depth_of(brightest)
    believed = brightest < 1 << declared and not declared > 16 >= found
    if declared and believed:
        return max(declared, 8)
    if found == 14 and _is_widened(values):
        return 16
    return min(found, levels.stored - 1) if levels.sign and found > 14 else found


def _depth_of(brightest: float) -> int:
    """The smallest depth that holds a level."""
    return next((bits for bits in DEPTHS if brightest < 1 << bits), DEPTHS[-1])


def _is_widened(values: npt.NDArray[np.integer]) -> bool:
    """Tell whether levels of 16 bits are 8 bits with the same 8, or none, below them."""
    low = values & 255
    return bool((low == 0).all() or (low == values >> 8).all())


def _from_fractions(values: npt.NDArray[np.floating], levels: Levels) -> npt.NDArray[np.uint8]:
    """Levels that are floating-point numbers, from 0 to 1 or to the maximum of a depth."""
    said = "pixels are floating-point numbers"
    if not np.isfinite(values).all():
        raise BitDepthError(f"{said}, and some are not finite")
    brightest = float(values.max())
    if values.min() < 0:
        raise BitDepthError(f"{said}, and some are below 0")
    if brightest == 0:
        raise BitDepthError(f"{said}, and all are 0, so that nothing tells their scale")
    white = levels.maximum
    if brightest > white:
        white = 1.0 if brightest <= 1 else float((1 << _depth_of(brightest)) - 1)
    return (values * (255 / white)).round().clip(0, 255).astype(np.uint8)


def _first(value: object) -> float:
    """The first of a tag's numbers, or its only one."""
    number: float = value[0] if isinstance(value, tuple) else value  # type: ignore[assignment]
    return number
