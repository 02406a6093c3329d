"""Images of any bit depth, mode and format give the right pixels or a reason, and never black."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reidray.data.images.bit_depth import DEPTHS
from reidray.data.images.decoding import _decode, decode_image
from reidray.data.images.masks import decode_mask
from reidray.data.images.pil_images import ImageDecodeError

BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE_VALUE, SMAX_SAMPLE_VALUE = 258, 262, 281, 341


def ramp(top=255):
    """Return an image that is dark on the left and bright on the right, (16, 8) of 0 to 255."""
    return np.tile(np.linspace(0, top, 8).round().astype(np.int64), (16, 1))


def file_of(levels, kind="PNG", **settings):
    """Return an image file of an array of levels."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, kind, **settings)
    return buffer.getvalue()


def tiff(levels, **tags):
    numbers = {"maximum": MAX_SAMPLE_VALUE, "s_maximum": SMAX_SAMPLE_VALUE, "kind": PHOTOMETRIC}
    return file_of(levels, "TIFF", tiffinfo={numbers[name]: value for name, value in tags.items()})


def chunk(name, content):
    data = name + content
    return struct.pack(">I", len(content)) + data + struct.pack(">I", zlib.crc32(data))


def png(levels, *, significant=None):
    """Return a PNG file of 16 bits: grey (H, W), or colours (H, W, C) with 3 or 4 channels."""
    height, width, *channels = levels.shape
    kind = {0: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 0]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if significant is not None:
        parts.append(chunk(b"sBIT", bytes([significant] * max(1, *channels, 1))))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey(data):
    """Return the levels of a file that decodes to grey."""
    pixels = decode_image(data, None)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def shows(data, expected, tolerance=1):
    assert np.abs(grey(data).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_each_depth_in_16_bits_gives_the_same_image(bits):
    levels = (ramp() << (bits - 8)).astype(np.uint16)
    shows(png(levels), ramp())
    shows(tiff(levels), ramp())
    shows(file_of(levels, "TIFF", compression="tiff_lzw"), ramp())
    shows(file_of(levels, "JPEG2000", irreversible=False), ramp())
    full = ((1 << bits) - 1) * ramp() // 255
    shows(png(full.astype(np.uint16)), ramp())


@pytest.mark.parametrize("bits", [8, 12, 16, 24])
def test_integers_of_32_bits_are_scaled_by_their_brightest_level(bits):
    levels = (ramp() << (bits - 8)).astype(np.int32)
    shows(tiff(levels), ramp())


def test_levels_of_8_bits_stay_as_they_are_in_any_mode():
    for top in (255, 200, 40, 3):
        for kind in (np.int32, np.uint16):
            assert (grey(tiff(ramp(top).astype(kind))) == ramp(top)).all()
        assert (grey(file_of(ramp(top).astype(np.uint8))) == ramp(top)).all()
        assert (grey(png((ramp(top) * 257).astype(np.uint16))) == ramp(top)).all() or top < 16


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize("top", [16, 30, 63, 200])
def test_8_bits_widened_to_16_keep_their_brightness(factor, top):
    shows(png((ramp(top) * factor).astype(np.uint16)), ramp(top), tolerance=0)


def test_a_declared_depth_takes_precedence():
    dark = ramp(20)
    twelve = (dark << 4).astype(np.uint16)  # would be taken for 10 bits
    shows(png(twelve, significant=12), dark)
    shows(tiff(twelve, maximum=4095), dark)
    shows(tiff(twelve, s_maximum=4095), dark)
    shows(tiff(twelve, maximum=4000), dark)
    shows(tiff((dark << 8).astype(np.uint16), maximum=65535), dark)
    shows(png((dark << 8).astype(np.uint16), significant=16), dark)


def test_a_declared_depth_that_the_levels_exceed_is_ignored():
    levels = (ramp() << 8).astype(np.uint16)
    shows(png(levels, significant=12), ramp())  # scaled to 16 bits, as the format has it
    shows(tiff(levels, maximum=255), ramp())
    shows(tiff(ramp().astype(np.int32), s_maximum=2**31 - 1), ramp())


def test_packed_levels_of_12_bits_are_declared_by_the_file():
    dark = (ramp(20) << 4).astype(np.uint16)
    first, second = dark.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    strip = packed.astype(np.uint8).tobytes()
    entries = [(256, 8), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    entries += [(278, 16), (279, len(strip))]
    header = struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = header + struct.pack("<H", len(entries)) + table + bytes(4)
    shows(data, ramp(20))


def test_signed_levels_of_16_bits_use_15_and_negative_ones_are_refused():
    def signed(levels):
        data = tiff(levels.astype(np.uint16))
        assert data.count(struct.pack("<HHI", 258, 3, 1)) == 1
        entry = struct.pack("<HHII", 339, 3, 1, 2)
        place = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, place)[0]
        table = data[place + 2 : place + 2 + 12 * count]
        moved = struct.pack("<H", count + 1) + table + entry + bytes(4)
        return data[:4] + struct.pack("<I", len(data)) + data[8:] + moved

    shows(signed(ramp() << 7), ramp())
    with pytest.raises(ImageDecodeError, match="levels below 0"):
        decode_image(signed((ramp() << 7) - 300 & 0xFFFF), None)


def test_white_is_0_if_the_file_declares_it():
    shows(tiff((255 - ramp() << 8).astype(np.uint16), kind=0), ramp())
    assert (grey(tiff(ramp().astype(np.uint8), kind=0)) == ramp()).all()  # Pillow inverts it


def test_a_transparent_level_of_16_bits_is_white():
    levels = (ramp() << 8).astype(np.uint16)
    pixels = grey(file_of(levels, transparency=int(levels[0, 3])))
    assert (pixels[:, 3] == 255).all()
    assert (pixels[:, :3] == ramp()[:, :3]).all()


@pytest.mark.parametrize(
    ("factor", "tags"),
    [(1 / 255, {}), (1.0, {}), (16.0, {}), (257.0, {}), (0.5 / 255, {"s_maximum": 0.5})],
)
def test_floating_point_levels_are_scaled_to_1_or_to_a_depth(factor, tags):
    shows(tiff((ramp() * factor).astype(np.float32), **tags), ramp())


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf, 0.0])
def test_floating_point_levels_without_a_scale_are_set_aside(wrong):
    levels = (ramp() * (wrong != 0)).astype(np.float32)
    levels[0, 0] = wrong
    with pytest.raises(ImageDecodeError, match="floating-point"):
        decode_image(tiff(levels), None)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_12_bits_in_16_are_set_aside_and_of_16_are_read(channels):
    colours = np.repeat(ramp()[..., None], channels, axis=2)
    if channels != 3:
        colours[..., -1] = 255  # opaque
    shows(png((colours * 257).astype(np.uint16)), ramp())
    colours[..., :3] <<= 4
    if channels != 3:
        colours[..., -1] = 65535
    with pytest.raises(ImageDecodeError, match=r"colours of 16 bits .* 5\.9% of white"):
        decode_image(png(colours.astype(np.uint16)), None)


def test_colours_declared_to_have_14_of_16_bits_are_set_aside():
    colours = np.repeat(ramp()[..., None] << 6, 3, axis=2).astype(np.uint16)
    with pytest.raises(ImageDecodeError, match="colours of 16 bits"):
        decode_image(png(colours, significant=14), None)


def test_colours_of_16_bits_in_separate_planes_are_set_aside():
    height, width, data = 4, 2, bytes(range(48))
    numbers, start = {}, 8 + 2 + 12 * 10 + 4
    numbers |= {256: width, 257: height, 259: 1, 262: 2, 277: 3, 278: height, 284: 2}
    arrays = {258: ("H", [16] * 3), 273: ("I", [0] * 3), 279: ("I", [16] * 3)}
    entries, extra = [], b""
    for tag in sorted([*numbers, *arrays]):
        if tag in numbers:
            entries.append(struct.pack("<HHIHH", tag, 3, 1, numbers[tag], 0))
            continue
        kind, values = arrays[tag]
        if tag == 273:
            values = [start + 30 + 16 * n for n in range(3)]
        code = 3 if kind == "H" else 4
        entries.append(struct.pack("<HHII", tag, code, 3, start + len(extra)))
        extra += struct.pack(f"<3{kind}", *values)
    head = struct.pack("<4sIH", b"II*\0", 8, len(entries))
    file = head + b"".join(entries) + bytes(4) + extra + data
    with pytest.raises(ImageDecodeError, match="colours of 16 bits, each stored by itself"):
        decode_image(file, None)


def test_portable_maps_of_16_bits_are_read_by_their_maximum():
    for white in (4095, 65535):
        levels = ramp() * white // 255
        for kind, repeats in ((b"P5", 1), (b"P6", 3)):
            pixels = np.repeat(levels[..., None], repeats, axis=2).astype(">u2").tobytes()
            shows(kind + b" 8 16 %d\n" % white + pixels, ramp())
    dark = np.repeat(ramp()[..., None] << 4, 3, axis=2).astype(">u2").tobytes()
    with pytest.raises(ImageDecodeError, match="colours of 16 bits"):
        decode_image(b"P6 8 16 65535\n" + dark, None)


def colours(mode):
    """Return an image, red on the left and blue on the right, in a mode."""
    image = Image.new("RGB", (8, 16), (220, 20, 20))
    image.paste((20, 20, 220), (4, 0, 8, 16))
    through = {"La": "LA", "PA": "RGBA", "I;16": "L", "I": "L", "F": "L"}.get(mode)
    if mode == "PA":
        image = image.convert("P")
        image.putalpha(255)
        return image
    if mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 8)
    return (image.convert(through) if through else image).convert(mode)


COLOURED = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
GREY = ("1", "L", "LA", "I", "I;16", "F")


KINDS = ("PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF", "PPM")
CUT = [(mode, kind) for mode in ("I", "I;16", "F") for kind in ("WEBP", "AVIF", "GIF")]
"""Modes that Pillow writes with changed levels."""


def written(mode, kind):
    """Return a file of a format; empty if Pillow does not write it."""
    buffer = io.BytesIO()
    quality = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    try:
        colours(mode).save(buffer, kind, **quality)
    except (OSError, ValueError, KeyError):
        return b""
    return buffer.getvalue()


FILES = {
    (mode, kind): data
    for mode in (*COLOURED, *GREY)
    for kind in KINDS
    if (mode, kind) not in CUT and (data := written(mode, kind))
}


@pytest.mark.parametrize(("mode", "kind"), FILES)
def test_every_mode_and_format_gives_the_same_image(mode, kind):
    pixels = decode_image(FILES[mode, kind], None).astype(int)
    assert pixels.shape == (16, 8, 3)
    left, right = pixels[8, 1], pixels[8, 6]
    if mode in COLOURED:
        assert np.abs(left - (220, 20, 20)).max() < 50
        assert np.abs(right - (20, 20, 220)).max() < 50
    elif mode == "1":
        assert left.max() - left.min() <= 3
        assert pixels.max() > 200
    else:
        assert np.abs(left - 80).max() < 8
        assert np.abs(right - 43).max() < 8


def test_colours_in_lab_are_set_aside_by_name():
    buffer = io.BytesIO()
    Image.new("LAB", (4, 4), (128, 128, 128)).save(buffer, "TIFF")
    with pytest.raises(ImageDecodeError, match="mode LAB"):
        decode_image(buffer.getvalue(), None)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_file_is_turned_by_its_exif_data_and_its_size_is_upright(kind, orientation):
    turn = {1: None, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    stored = colours("RGB") if turn is None else colours("RGB").transpose(turn)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored.save(buffer, kind, exif=exif)
    pixels, shape = _decode(buffer.getvalue(), None)
    assert pixels.shape[:2] == shape == (16, 8)
    assert pixels[8, 0, 0] > 180
    assert pixels[8, 7, 2] > 180


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_images_is_read(kind):
    frames = [Image.new("RGB", (8, 16), colour) for colour in ((220, 20, 20), (20, 220, 20))]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    pixels = decode_image(buffer.getvalue(), None).astype(int)
    assert np.abs(pixels - (220, 20, 20)).max() < 20


@given(st.lists(st.integers(0, 65535), min_size=4, max_size=4), st.sampled_from(["PNG", "TIFF"]))
def test_no_image_with_levels_becomes_black(levels, kind):
    """Check that the brightest pixel keeps an eighth of white, or lies in the lowest 8 bits."""
    values = np.array(levels, np.uint16).reshape(2, 2)
    pixels = grey(file_of(values, kind))
    if values.max() >= 256:
        assert pixels.max() >= 32 or (values.max() > 4095 and pixels.max() >= 16)
    else:
        assert (pixels == values).all()
    order = values.reshape(-1).argsort(kind="stable")
    assert (np.diff(pixels.reshape(-1)[order].astype(int)) >= 0).all()


FOREGROUND = np.tile([0, 0, 1, 1], (4, 1))
TRIMAP = np.tile([2, 2, 1, 3], (4, 1))


@pytest.mark.parametrize(
    "levels", [FOREGROUND, FOREGROUND * 255, FOREGROUND * 4095, FOREGROUND * 65535, TRIMAP]
)
def test_masks_of_16_and_32_bits_are_read(levels):
    for data in (
        png(levels.astype(np.uint16)),
        tiff(levels.astype(np.uint16)),
        tiff(levels.astype(np.int32)),
    ):
        assert (decode_mask(data, (4, 4), None) == FOREGROUND).all()


def test_a_trimap_widened_to_16_bits_is_a_trimap():
    data = png((TRIMAP * 257).astype(np.uint16))
    assert (decode_mask(data, (4, 4), None) == FOREGROUND).all()


@pytest.mark.parametrize("levels", [FOREGROUND * 700, TRIMAP * 300, FOREGROUND * 3 + 40])
def test_masks_of_16_bits_with_other_values_are_set_aside_with_these(levels):
    with pytest.raises(ImageDecodeError, match=f"values {levels.min()}, .*{levels.max()}"):
        decode_mask(png(levels.astype(np.uint16)), (4, 4), None)


def test_masks_in_colours_of_16_bits_lose_nothing():
    colours = np.repeat(FOREGROUND[..., None], 3, axis=2)
    with pytest.raises(ImageDecodeError, match="colours of 16 bits"):
        decode_mask(png(colours.astype(np.uint16)), (4, 4), None)
    assert (decode_mask(png((colours * 65535).astype(np.uint16)), (4, 4), None) == FOREGROUND).all()


def test_every_depth_is_one_that_scales_to_8_bits():
    assert all(8 <= bits <= 32 for bits in DEPTHS)
