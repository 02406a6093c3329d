"""Crops of people for tests: each a few colours of their own, with noise in every picture."""

import numpy as np
from PIL import Image


def draw_crop(path, person, variant, noise):
    """Write a picture of 8x4, whose noise stays under `noise`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(person).integers(0, 200, (8, 4, 3))
    grain = np.random.default_rng([person, variant]).integers(0, noise, (8, 4, 3))
    Image.fromarray((colours + grain).astype(np.uint8)).save(path)
