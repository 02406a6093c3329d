"""Read or draw the crops with which an export is checked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidray.data.images.decoding import decode_files
from reidray.data.reading.image_folders import list_images
from reidray.demo.people import generate_people
from reidray.demo.scene import place_cameras, render_crop
from reidray.errors import UserError
from reidray.storage.location import Location

CHECKED = 256
CALIBRATION = 256
"""Numbers of crops that are compared, and from which int8 takes the ranges of activations."""

DRAWN_PEOPLE = 16
DRAWN_CAMERAS = 3


@dataclass(frozen=True, eq=False)
class CheckCrops:
    """Hold crops (N, H, W, 3) uint8 RGB.

    Attributes:
        compared: crops that are compared.
        calibration: other crops, from which int8 takes its ranges; none where none are needed.
    """

    compared: NDArray[np.uint8]
    calibration: NDArray[np.uint8]


def read_crops(uri: str, size: tuple[int, int], *, calibrate: bool) -> CheckCrops:
    """Return crops of a folder, spread evenly over its sorted names.

    Args:
        uri: a local folder or `s3://` address.
        size: height and width of a crop in pixels.
        calibrate: whether to read crops for a calibration too.

    Raises:
        UserError: too few images of the folder decode.
    """
    folder = Location(uri)
    paths = list_images(folder)
    wanted = min(len(paths), CHECKED + CALIBRATION * calibrate)
    chosen = [paths[index * len(paths) // wanted] for index in range(wanted)]
    crops = decode_files(folder, chosen, size).crops
    if len(crops) < 2 + 2 * calibrate:
        raise UserError(
            f"`check_images` {folder.uri}: {len(crops)} images decode, too few to compare; name a "
            "folder of crops"
        )
    if not calibrate:
        return CheckCrops(crops, crops[:0])
    return CheckCrops(crops[::2], crops[1::2])


def draw_crops(size: tuple[int, int]) -> CheckCrops:
    """Return crops of drawn people, the same ones each time.

    Args:
        size: height and width of a crop in pixels.
    """
    random = np.random.default_rng(0)
    people = generate_people(random, DRAWN_PEOPLE)
    cameras = place_cameras(random, DRAWN_CAMERAS)
    images = [render_crop(camera, person, random) for person in people for camera in cameras]
    resized = [image.resize(size[::-1], Image.Resampling.BILINEAR) for image in images]
    crops = np.stack([np.asarray(image.convert("RGB")) for image in resized])
    return CheckCrops(crops, crops[:0])
