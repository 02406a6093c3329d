"""Write tiny image files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def encode_image(image, kind="JPEG", **options):
    """Return the bytes of an image file."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def tiny_jpeg(colour=(200, 40, 90), width=8, height=16):
    return encode_image(Image.new("RGB", (width, height), colour), quality=95)


def two_coloured_image(width=64, height=128, left=(250, 10, 10), right=(10, 10, 250)):
    """Return an image of two colours, which shows whether it was rotated or mirrored."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def write_images(root, paths):
    for path in paths:
        file = Path(root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tiny_jpeg())
    return Path(root)
