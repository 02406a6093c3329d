"""Define the colours of the drawings, and vary them."""

import numpy as np

from reidray.data.attribute_schema import LOWER_COLOURS, UPPER_COLOURS

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "black": (32, 32, 36),
    "white": (238, 238, 234),
    "red": (204, 38, 42),
    "pink": (242, 140, 178),
    "purple": (124, 54, 160),
    "yellow": (240, 204, 56),
    "gray": (122, 124, 128),
    "blue": (42, 88, 196),
    "green": (52, 144, 70),
    "brown": (120, 76, 44),
}
"""The RGB value of each colour of the attributes; all shades in the set are near one of them."""

assert set(PALETTE) == {*UPPER_COLOURS, *LOWER_COLOURS}

_BRIGHT = ("red", "yellow", "blue", "green")


def shade(colour: Colour, factor: float) -> Colour:
    """Make a colour darker (factor below 1) or lighter."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def vary(rng: np.random.Generator, colour: Colour, spread: float = 8.0) -> Colour:
    """Draw a shade near a colour, which differs in brightness and slightly in hue."""
    moved = np.array(colour) * rng.uniform(0.93, 1.07) + rng.uniform(-spread, spread, 3)
    red, green, blue = np.clip(moved, 0, 255).round().astype(int).tolist()
    return red, green, blue


def sample_bright_colours(rng: np.random.Generator, count: int) -> tuple[Colour, ...]:
    """Draw different bright colours, for multicoloured clothes."""
    names = rng.choice(_BRIGHT, count, replace=False)
    return tuple(vary(rng, PALETTE[name]) for name in names)


def tint(colour: Colour) -> Colour:
    """Make a colour visibly darker, or lighter if it is dark, for a pattern on it."""
    return shade(colour, 0.66) if sum(colour) > 240 else shade(colour, 2.2)
