"""Draw shapes in units of the height of a person instead of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

from reidray.demo.colours import Colour

Point = tuple[float, float]


@dataclass(frozen=True)
class Slice:
    """Hold the left and right edge of a silhouette at the height `y`."""

    y: float
    left: float
    right: float


@dataclass(frozen=True)
class Pen:
    """Draw shapes of a figure in units of its height: x to the right of the feet, y upwards.

    Attributes:
        draw: the canvas.
        foot: the pixel (x, y) of the ground between the feet.
        height: the height of the figure in pixels.
        mirrored: whether x points to the left.
    """

    draw: ImageDraw.ImageDraw
    foot: Point
    height: float
    mirrored: bool = False

    def _pixel(self, point: Point) -> Point:
        side = -1 if self.mirrored else 1
        return (
            self.foot[0] + side * point[0] * self.height,
            self.foot[1] - point[1] * self.height,
        )

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Draw a filled polygon."""
        self.draw.polygon([self._pixel(point) for point in points], fill=colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line through the points, such as a strap."""
        pixels = [self._pixel(point) for point in points]
        self.draw.line(pixels, fill=colour, width=max(1, round(width * self.height)), joint="curve")

    def oval(self, centre: Point, across: float, up: float, colour: Colour) -> None:
        """Draw a filled ellipse with the half axes `across` and `up`."""
        x, y = self._pixel(centre)
        across, up = across * self.height, up * self.height
        self.draw.ellipse((x - across, y - up, x + across, y + up), fill=colour)

    def box(self, centre: Point, across: float, up: float, colour: Colour) -> None:
        """Draw a filled rectangle with round corners and the half sides `across` and `up`."""
        x, y = self._pixel(centre)
        across, up = across * self.height, up * self.height
        corner = 0.5 * min(across, up)
        self.draw.rounded_rectangle((x - across, y - up, x + across, y + up), corner, fill=colour)

    def limb(self, joints: Sequence[Point], widths: Sequence[float], colour: Colour) -> None:
        """Draw an arm, a leg or its garment, tapered between the joints and round at each."""
        for joint, width in zip(joints, widths, strict=True):
            self.oval(joint, width, width, colour)
        for (a, b), (wide, narrow) in zip(pairwise(joints), pairwise(widths), strict=True):
            along = np.subtract(b, a)
            length = float(np.hypot(*along)) or 1.0
            x, y = -along[1] / length, along[0] / length
            self.polygon(
                [
                    (a[0] + x * wide, a[1] + y * wide),
                    (b[0] + x * narrow, b[1] + y * narrow),
                    (b[0] - x * narrow, b[1] - y * narrow),
                    (a[0] - x * wide, a[1] - y * wide),
                ],
                colour,
            )

    def band(self, outline: Sequence[Slice], top: float, bottom: float, colour: Colour) -> None:
        """Draw the part of a silhouette between two heights; its slices run from top to bottom."""
        ys = [s.y for s in reversed(outline)]
        levels = [top, *(s.y for s in outline if bottom < s.y < top), bottom]
        left = np.interp(levels, ys, [s.left for s in reversed(outline)])
        right = np.interp(levels, ys, [s.right for s in reversed(outline)])
        points = [*zip(left, levels, strict=True), *zip(right[::-1], levels[::-1], strict=True)]
        self.polygon([(float(x), float(y)) for x, y in points], colour)

    def stripes(self, outline: Sequence[Slice], colours: Sequence[Colour], each: float) -> None:
        """Draw the whole silhouette, in one colour or in stripes of the height `each`."""
        top, bottom = outline[0].y, outline[-1].y
        if len(colours) == 1:
            self.band(outline, top, bottom, colours[0])
            return
        for number, y in enumerate(np.arange(top, bottom, -each).tolist()):
            self.band(outline, y, max(y - each, bottom), colours[number % len(colours)])
