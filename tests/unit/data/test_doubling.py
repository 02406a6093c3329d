import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from support.tiny_images import encode_image

from reidray.data.images.decoding import decode_image
from reidray.data.images.doubling import double

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


def enlarged(pixels):
    """Return the pixels of an image that Pillow has doubled."""
    height, width, _ = pixels.shape
    size = (2 * width, 2 * height)
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_doubled_images_have_the_pixels_of_pillow(pixels):
    np.testing.assert_array_equal(double(pixels), enlarged(pixels))


def test_crops_are_doubled_where_a_network_takes_twice_their_size():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    data = encode_image(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(decode_image(data, (32, 16)), enlarged(pixels))
    np.testing.assert_array_equal(decode_image(data, (16, 8)), pixels)
