import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.tiny_images import encode_image, tiny_jpeg, two_coloured_image, write_images

from reidray.data.images.decoding import (
    BadImage,
    check_bad_images,
    decode_files,
    decode_image,
)
from reidray.data.images.pil_images import ImageDecodeError
from reidray.errors import UserError
from reidray.storage.location import Location

RED, BLUE = (250, 10, 10), (10, 10, 250)


def is_colour(pixel, colour, tolerance=12):
    return np.abs(pixel.astype(int) - colour).max() <= tolerance


def huge_png(width, height):
    """Return the header of a PNG of any size: a decompression bomb of forty bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize(
    "data",
    [
        encode_image(two_coloured_image()),
        encode_image(two_coloured_image(), "PNG"),
        encode_image(two_coloured_image(), "BMP"),
        encode_image(two_coloured_image(), "WEBP", quality=95),
        encode_image(two_coloured_image(), "TIFF"),
        encode_image(two_coloured_image().convert("CMYK")),
        encode_image(two_coloured_image().quantize(16), "PNG"),
        encode_image(two_coloured_image().quantize(16), "GIF"),
        encode_image(two_coloured_image().convert("RGBA"), "PNG"),
        encode_image(two_coloured_image(), progressive=True),
    ],
    ids=["JPEG", "PNG", "BMP", "WEBP", "TIFF", "CMYK", "palette", "GIF", "RGBA", "progressive"],
)
def test_every_kind_of_file_gives_the_same_rgb(data):
    pixels = decode_image(data, None)
    assert pixels.shape == (128, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert is_colour(pixels[64, 10], RED)
    assert is_colour(pixels[64, 50], BLUE)


def test_sixteen_bit_grey_keeps_its_brightness():
    levels = np.full((8, 8), 128 * 256, np.uint16)
    levels[:, :4] = 7 * 256
    pixels = decode_image(encode_image(Image.fromarray(levels), "PNG"), None)
    assert (pixels[:, :4] == 7).all()
    assert (pixels[:, 4:] == 128).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(mode):
    pixels = decode_image(encode_image(Image.new("L", (4, 4), 255).convert(mode), "PNG"), None)
    assert (pixels == 255).all()


def test_transparent_pixels_are_white_in_rgba_and_palette():
    image = two_coloured_image().convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0, 255]], 32, axis=1).repeat(128, 0).astype("u1")))
    pixels = decode_image(encode_image(image, "PNG"), None)
    assert (pixels[:, :32] == 255).all()
    assert is_colour(pixels[64, 50], BLUE)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0])
    assert (decode_image(encode_image(palette, "PNG", transparency=0), None) == 255).all()


@pytest.mark.parametrize("size", [None, (128, 64), (16, 8)], ids=["own", "same", "scaled"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_for_every_exif_orientation(orientation, size):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = (
        two_coloured_image()
        if orientation == 1
        else two_coloured_image().transpose(turn[orientation])
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encode_image(stored, exif=exif), size)
    height, width = size or (128, 64)
    assert pixels.shape == (height, width, 3)
    assert is_colour(pixels[height // 2, 1], RED, 25)
    assert is_colour(pixels[height // 2, -2], BLUE, 25)


def test_size_is_height_then_width_for_larger_and_smaller():
    for size in ((256, 128), (20, 50), (1, 1)):
        assert decode_image(encode_image(two_coloured_image()), size).shape == (*size, 3)


def test_a_scaled_decode_is_close_to_a_full_one():
    ramp = np.linspace(0, 255, 1024).astype(np.uint8)
    pil_image = Image.fromarray(np.stack([np.tile(ramp, (512, 1))] * 3, axis=2))
    from_jpeg = decode_image(encode_image(pil_image, quality=95), (32, 64))
    from_png = decode_image(encode_image(pil_image, "PNG"), (32, 64))
    assert np.abs(from_jpeg.astype(int) - from_png).max() <= 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (encode_image(two_coloured_image())[:-300], "broken"),
        (encode_image(two_coloured_image())[:30], "not an image|broken"),
        (encode_image(two_coloured_image(), "PNG")[:100], "broken"),
        (huge_png(10_000, 8_000), "pixels"),
        (huge_png(30_000, 30_000), "pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (encode_image(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "cut", "header", "png", "big", "bomb", "postscript", "float"],
)
def test_an_unusable_image_is_refused_with_a_reason(data, reason):
    with pytest.raises(ImageDecodeError, match=reason):
        decode_image(data, (128, 64))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_damaged_bytes_decode_or_are_refused(place, damage):
    data = tiny_jpeg(width=32, height=32)
    place %= len(data)
    try:
        pixels = decode_image(data[:place] + damage + data[place + len(damage) :], (16, 8))
    except ImageDecodeError:
        return
    assert pixels.shape == (16, 8, 3)


@pytest.mark.parametrize("size", [None, (8, 4)])
@pytest.mark.parametrize("orientation", [None, 6])
def test_a_png_whose_stream_is_broken_is_refused_and_not_black(orientation, size):
    buffer, note = io.BytesIO(), Image.Exif()
    if orientation is not None:
        note[ExifTags.Base.Orientation] = orientation
    two_coloured_image(16, 32).save(buffer, "PNG", exif=note)
    data = bytearray(buffer.getvalue())
    assert decode_image(bytes(data), size).any()
    data[data.index(b"IDAT") + 6] = 0xFF  # a kind of block that there is not
    with pytest.raises(ImageDecodeError, match="broken image"):
        decode_image(bytes(data), size)


def test_bad_files_are_set_aside_and_the_others_keep_their_indices(tmp_path):
    (tmp_path / "a, b.jpg").write_bytes(encode_image(two_coloured_image()))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "png named.jpg").write_bytes(
        encode_image(two_coloured_image(left=(0, 200, 0)), "PNG")
    )
    (tmp_path / "folder.jpg").mkdir()
    paths = ["empty.jpg", "a, b.jpg", "gone.jpg", "png named.jpg", "folder.jpg"]
    decoded = decode_files(Location(str(tmp_path)), paths, (32, 16))
    assert decoded.kept == (1, 3)
    assert decoded.crops.shape == (2, 32, 16, 3)
    assert is_colour(decoded.crops[0, 16, 2], RED)
    assert is_colour(decoded.crops[1, 16, 2], (0, 200, 0))
    assert [bad.path for bad in decoded.bad] == ["empty.jpg", "gone.jpg", "folder.jpg"]
    assert "empty" in decoded.bad[0].reason
    assert "No such file" in decoded.bad[1].reason


def test_no_paths_give_no_crops(tmp_path):
    assert decode_files(Location(str(tmp_path)), [], (32, 16)).crops.shape == (0, 32, 16, 3)


def test_a_path_out_of_the_folder_is_an_error_and_not_a_bad_image(tmp_path):
    write_images(tmp_path, ["secret.jpg", "set/a.jpg"])
    with pytest.raises(UserError, match=r"\.\./secret\.jpg"):
        decode_files(Location(str(tmp_path / "set")), ["../secret.jpg"], (32, 16))


def test_bad_images_are_an_error_beyond_their_share():
    bad = [BadImage(f"{number}.jpg", "the file is empty") for number in range(5)]
    check_bad_images([], 0, 0.0)
    check_bad_images(bad, 100, 0.05)
    with pytest.raises(UserError, match=r"5 of 99 .*0\.jpg: the file is empty.*2\.jpg.*\.\.\."):
        check_bad_images(bad, 99, 0.05)
    with pytest.raises(UserError, match="1 of 1000"):
        check_bad_images(bad[:1], 1000, 0.0)


def test_images_of_which_none_decodes_are_an_error_whatever_share_is_allowed():
    bad = [BadImage(f"{number}.jpg", "the file is empty") for number in range(5)]
    with pytest.raises(UserError, match=r"5 of 5 .*decoded, and one at least must be \(0\.jpg"):
        check_bad_images(bad, 5, 1.0)
