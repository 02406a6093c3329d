"""Draw pets: squares whose colour is their breed."""

import numpy as np
from PIL import Image

BREEDS = ("Abyssinian", "beagle", "Birman")


def draw_pet(breed, number):
    """Return a square in the colour of its breed on grey, and its trimap."""
    pixels = np.full((40, 40, 3), 120, np.uint8)
    trimap = np.full((40, 40), 2, np.uint8)
    square = (slice(number, number + 20), slice(2 * number % 17, 2 * number % 17 + 20))
    pixels[(*square, breed)] = 250
    trimap[square] = 1
    return Image.fromarray(pixels), Image.fromarray(trimap)


def draw_pets(folder):
    """Draw twelve images of three breeds each in the layout of Oxford Pets, a third as test."""
    trimaps = folder / "annotations" / "trimaps"
    trimaps.mkdir(parents=True)
    (folder / "images").mkdir()
    lists = {"trainval": [], "test": []}
    for breed, name in enumerate(BREEDS):
        for number in range(12):
            image, trimap = draw_pet(breed, number)
            image.save(folder / "images" / f"{name}_{number}.jpg", quality=95)
            trimap.save(trimaps / f"{name}_{number}.png")
            which = "trainval" if number < 8 else "test"
            lists[which].append(f"{name}_{number} {breed + 1} 1 1\n")
    for which, lines in lists.items():
        (folder / "annotations" / f"{which}.txt").write_text("".join(lines))
    return folder
