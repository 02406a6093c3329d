"""Draw crops of people: a few colours for each person, and noise for each image."""

import numpy as np
from PIL import Image


def draw_crop(path, person, variant, noise):
    """Write an image of 8 x 4 pixels with noise below `noise`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(person).integers(0, 200, (8, 4, 3))
    grain = np.random.default_rng([person, variant]).integers(0, noise, (8, 4, 3))
    Image.fromarray((colours + grain).astype(np.uint8)).save(path)
