import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.tiny_images import encode_image, two_coloured_image

from reidray.data.images.jpeg import decode_plain_jpeg

ENOUGH = 10**6


def photograph(mode, height, width):
    """Return a smooth image with some noise."""
    random = np.random.default_rng(height * 1000 + width)
    coarse = random.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.int16) + random.integers(-9, 9, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


sides = st.integers(1, 140)
encodings = st.fixed_dictionaries(
    {
        "quality": st.integers(30, 95),
        "progressive": st.booleans(),
        "subsampling": st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    }
)


@given(st.sampled_from(["RGB", "L"]), sides, sides, encodings, st.none() | st.tuples(sides, sides))
def test_the_pixels_are_pillow_s(mode, height, width, encoding, size):
    data = encode_image(photograph(mode, height, width), **encoding)
    with Image.open(io.BytesIO(data)) as image:
        if size is not None:
            image.draft(None, size[::-1])
        expected = np.asarray(image.convert("RGB"))
    pixels, shape = decode_plain_jpeg(data, size, ENOUGH)
    assert shape == (height, width)
    assert np.array_equal(pixels, expected)


def with_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode_image(two_coloured_image(), exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        encode_image(two_coloured_image(), "PNG"),
        encode_image(two_coloured_image())[:-200],
        encode_image(two_coloured_image().convert("CMYK")),
        with_exif(),
        encode_image(Image.new("L", (1001, 1000))),
    ],
    ids=["empty", "bare", "png", "cut off", "cmyk", "turned", "too large"],
)
def test_anything_else_is_left_to_pillow(data):
    assert decode_plain_jpeg(data, None, ENOUGH) is None
