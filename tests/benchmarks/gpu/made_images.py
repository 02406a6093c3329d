"""Write JPEG files of smooth random pictures, each of them another file."""

from io import BytesIO

import numpy as np
from PIL import Image

PICTURES = 512


def write_jpegs(folder, count, size=(128, 64), quality=90):
    """Write files of pictures of a height and width to a new folder.

    Args:
        folder: the folder.
        count: number of files. Pictures repeat, but no file has the bytes of another one.
        size: height and width in pixels.
        quality: quality of the JPEGs.
    """
    folder.mkdir()
    random = np.random.default_rng(0)
    encoded = [_encode(random, size, quality) for _ in range(min(count, PICTURES))]
    for number in range(count):
        # What follows the end of a JPEG is no part of the picture, and makes it another file.
        data = encoded[number % len(encoded)] + f"{folder.name} {number}".encode()
        (folder / f"{number:06d}.jpg").write_bytes(data)


def _encode(random, size, quality):
    """Return a picture of 16 x 8 patches of colour that run into each other, as JPEG."""
    patches = Image.fromarray(random.integers(0, 256, (16, 8, 3), dtype=np.uint8))
    file = BytesIO()
    patches.resize(size[::-1], Image.Resampling.BILINEAR).save(file, "JPEG", quality=quality)
    return file.getvalue()
