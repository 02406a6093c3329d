"""Generate cameras, with their surroundings, light and optics, and render crops."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reidray.demo.colours import Colour, shade, vary
from reidray.demo.figure import draw_person
from reidray.demo.pen import Pen
from reidray.demo.people import Person
from reidray.demo.skeleton import VIEWS, Pose

WIDTH, HEIGHT = 64, 128
"""Size of a crop in pixels."""

_SUPERSAMPLING = 2
"""Factor by which a crop is drawn larger before it is reduced to its size."""

_SCENE_WIDTH, _SCENE_HEIGHT = 900, 320
"""Size of the surroundings of a camera in supersampled pixels. A crop shows a window of them."""

_HAZE: Colour = (150, 152, 154)
"""Colour into which the background fades, so that people stand out."""

_GROUND = 0.45
"""Distance from the top to the ground, as a share of the height of the surroundings."""


@dataclass(frozen=True)
class Camera:
    """Hold the surroundings and the optics of a camera.

    Attributes:
        surroundings: the scene without people, in supersampled pixels.
        light: the factors on red, green and blue.
        blur: the radius of the blur in pixels of a crop.
        noise: the standard deviation of the noise in levels of 255.
        zoom: the height of a tall adult as a share of the crop.
        views: the probability of each of `VIEWS`.
    """

    surroundings: Image.Image
    light: tuple[float, float, float]
    blur: float
    noise: float
    zoom: float
    views: tuple[float, ...]


def place_cameras(rng: np.random.Generator, count: int) -> list[Camera]:
    """Generate cameras with different scenes and brightness levels, in random order."""
    brightness = rng.permutation(np.linspace(0.88, 1.08, count))
    return [
        Camera(
            surroundings=_paint_surroundings(rng, _SCENES[number % len(_SCENES)]),
            light=tuple((bright * rng.uniform(0.95, 1.05, 3)).tolist()),
            blur=rng.uniform(0.0, 0.7),
            noise=rng.uniform(2.0, 6.0),
            zoom=rng.uniform(0.89, 0.95),
            views=tuple(rng.dirichlet([3.0] * len(VIEWS)).tolist()),
        )
        for number, bright in enumerate(brightness)
    ]


def render_crop(camera: Camera, person: Person, rng: np.random.Generator) -> Image.Image:
    """Render a crop of a person as a detector would cut it: an RGB image of WIDTH x HEIGHT."""
    wide, tall = WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING
    left = int(rng.integers(0, _SCENE_WIDTH - wide))
    top = int(rng.integers(0, _SCENE_HEIGHT - tall))
    image = camera.surroundings.crop((left, top, left + wide, top + tall))
    draw = ImageDraw.Draw(image)
    pose = Pose(VIEWS[rng.choice(len(VIEWS), p=camera.views)], rng.uniform(-1, 1))
    pen = Pen(
        draw=draw,
        foot=(wide * (0.5 + rng.uniform(-0.08, 0.08)), tall * (0.97 + rng.uniform(-0.03, 0.02))),
        height=tall * camera.zoom * rng.uniform(0.96, 1.03) * person.build.height,
        mirrored=pose.view == "side" and bool(rng.random() < 0.5),
    )
    draw_person(pen, person, pose)
    if rng.random() < 0.12:
        _draw_obstacle(draw, rng)
    return _expose(image.reduce(_SUPERSAMPLING), camera, rng)


def _expose(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Apply the light, the blur and the noise of a camera to an image."""
    blurred = image.filter(ImageFilter.GaussianBlur(camera.blur * rng.uniform(0.6, 1.4)))
    light = np.array(camera.light, np.float32) * np.float32(rng.uniform(0.95, 1.05))
    noise = rng.standard_normal((HEIGHT, WIDTH, 3), np.float32) * camera.noise
    pixels = np.asarray(blurred, np.float32) * light + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_obstacle(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Draw an obstacle in front of the person: a post, a bush or the wheel of a bicycle."""
    wide, tall = WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING
    kind = rng.integers(3)
    x = float(rng.uniform(0, wide))
    if kind == 0:
        x = float(rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)])) * wide
        draw.rectangle((x - 6, 0, x + 6, tall), fill=(92, 98, 104))
        draw.rectangle((x - 6, 0, x - 3, tall), fill=(132, 138, 144))
    elif kind == 1:
        for _ in range(14):
            leaf, up = x + rng.normal(0, 24), tall - abs(rng.normal(0, 18))
            green = vary(rng, (46, 96, 44))
            draw.ellipse((leaf - 11, up - 10, leaf + 11, up + 10), fill=green)
    else:
        draw.ellipse((x - 30, tall - 62, x + 30, tall - 2), outline=(34, 34, 36), width=5)
        draw.line((x, tall - 32, x + 30, tall - 84), fill=(170, 40, 40), width=5)


Scene = Callable[[ImageDraw.ImageDraw, np.random.Generator, int], None]


def _paint_surroundings(rng: np.random.Generator, scene: Scene) -> Image.Image:
    image = Image.new("RGB", (_SCENE_WIDTH, _SCENE_HEIGHT))
    scene(ImageDraw.Draw(image), rng, round(_SCENE_HEIGHT * _GROUND))
    far = image.filter(ImageFilter.GaussianBlur(_SUPERSAMPLING))
    return Image.blend(far, Image.new("RGB", far.size, _HAZE), 0.5)


def _paint_square(draw: ImageDraw.ImageDraw, rng: np.random.Generator, ground: int) -> None:
    """Paint house fronts with windows behind a paved square."""
    _fill(draw, 0, ground, vary(rng, (204, 180, 150)))
    for x in range(10, _SCENE_WIDTH, 62):
        for y in range(8, ground - 30, 66):
            glass = vary(rng, (78, 98, 124), 22)
            draw.rectangle((x - 3, y - 3, x + 33, y + 47), fill=(238, 232, 220))
            draw.rectangle((x, y, x + 30, y + 44), fill=glass)
            draw.line((x + 15, y, x + 15, y + 44), fill=(238, 232, 220), width=3)
    paving = vary(rng, (176, 172, 164))
    _fill(draw, ground, _SCENE_HEIGHT, paving)
    for row, y in enumerate(range(ground, _SCENE_HEIGHT, 22)):
        draw.line((0, y, _SCENE_WIDTH, y), fill=shade(paving, 0.84), width=2)
        for x in range(20 * (row % 2), _SCENE_WIDTH, 40):
            draw.line((x, y, x - 6, y + 22), fill=shade(paving, 0.84), width=2)


def _paint_park(draw: ImageDraw.ImageDraw, rng: np.random.Generator, ground: int) -> None:
    """Paint trees and bushes behind a lawn with a path."""
    _fill(draw, 0, ground, vary(rng, (150, 190, 214)))
    for left in range(0, _SCENE_WIDTH, 46):
        trunk = left + int(rng.integers(-10, 10))
        draw.rectangle((trunk - 6, 30, trunk + 6, ground), fill=vary(rng, (84, 62, 44)))
        for _ in range(5):
            leaf_x, leaf_y = trunk + rng.normal(0, 18), 30 + rng.normal(0, 18)
            leaves = vary(rng, (52, 104, 48), 18)
            draw.ellipse((leaf_x - 24, leaf_y - 20, leaf_x + 24, leaf_y + 20), fill=leaves)
        bush = vary(rng, (66, 116, 54), 12)
        draw.ellipse((left - 34, ground - 36, left + 34, ground + 20), fill=bush)
    grass = vary(rng, (104, 150, 72))
    _fill(draw, ground, _SCENE_HEIGHT, grass)
    for _ in range(900):
        x, y = rng.uniform(0, _SCENE_WIDTH), rng.uniform(ground, _SCENE_HEIGHT)
        draw.line((x, y, x + 2, y - 7), fill=shade(grass, rng.uniform(0.75, 1.2)), width=2)
    draw.rectangle((0, ground + 92, _SCENE_WIDTH, ground + 130), fill=vary(rng, (196, 176, 138)))


def _paint_street(draw: ImageDraw.ImageDraw, rng: np.random.Generator, ground: int) -> None:
    """Paint a brick wall with shop awnings, a kerb and the road with its white line."""
    brick = vary(rng, (150, 82, 64))
    _fill(draw, 0, ground, shade(brick, 0.72))
    for row, y in enumerate(range(0, ground, 12)):
        for x in range(-14 * (row % 2), _SCENE_WIDTH, 28):
            draw.rectangle((x, y, x + 25, y + 9), fill=vary(rng, brick, 8))
    for x in range(30, _SCENE_WIDTH, 150):
        awning = vary(rng, (60, 70, 90), 40)
        draw.rectangle((x, 50, x + 80, ground), fill=(46, 52, 62))
        for stripe in range(x - 6, x + 86, 23):
            draw.rectangle((stripe, 36, stripe + 11, 58), fill=awning)
            draw.rectangle((stripe + 12, 36, stripe + 22, 58), fill=(232, 228, 220))
    _fill(draw, ground, ground + 60, vary(rng, (148, 146, 144), 4))
    _fill(draw, ground + 60, ground + 68, (196, 194, 190))
    _fill(draw, ground + 68, _SCENE_HEIGHT, vary(rng, (82, 84, 90), 4))
    for x in range(0, _SCENE_WIDTH, 110):
        draw.rectangle((x, ground + 118, x + 60, ground + 126), fill=(226, 226, 222))


def _paint_station(draw: ImageDraw.ImageDraw, rng: np.random.Generator, ground: int) -> None:
    """Paint a tiled wall with posters and a platform with its yellow line."""
    tile = vary(rng, (92, 128, 140))
    _fill(draw, 0, ground, shade(tile, 0.8))
    for y in range(0, ground, 18):
        for x in range(0, _SCENE_WIDTH, 18):
            draw.rectangle((x, y, x + 15, y + 15), fill=vary(rng, tile, 5))
    for x in range(40, _SCENE_WIDTH, 130):
        draw.rectangle((x, 20, x + 64, 110), fill=(240, 238, 232))
        draw.rectangle((x + 6, 26, x + 58, 74), fill=vary(rng, (170, 110, 90), 60))
        draw.rectangle((x + 6, 84, x + 46, 90), fill=(70, 70, 76))
    floor = vary(rng, (70, 68, 76), 5)
    _fill(draw, ground, _SCENE_HEIGHT, floor)
    for y in range(ground + 20, _SCENE_HEIGHT, 30):
        draw.line((0, y, _SCENE_WIDTH, y), fill=shade(floor, 1.25), width=2)
    _fill(draw, ground + 96, ground + 108, (222, 186, 60))


def _fill(draw: ImageDraw.ImageDraw, top: int, bottom: int, colour: Colour) -> None:
    draw.rectangle((0, top, _SCENE_WIDTH, bottom), fill=colour)


_SCENES: tuple[Scene, ...] = (_paint_square, _paint_park, _paint_street, _paint_station)
