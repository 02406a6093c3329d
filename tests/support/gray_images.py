"""Draw images whose grey level is their number."""

import numpy as np
import pyarrow as pa
from PIL import Image

from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.ingest.image_files import ImageFiles
from reidray.storage.location import Location

SIZE = (8, 6)


def draw_gray_images(folder):
    """Draw forty images of one grey level each, and masks whose left columns are foreground."""
    for number in range(40):
        Image.new("L", (6, 8), 5 * number).save(folder / f"{number}.png")
        trimap = np.full((8, 6), 2, np.uint8)
        trimap[:, : number % 6] = 1
        Image.fromarray(trimap).save(folder / f"{number}.mask.png")
    (folder / "7.mask.png").unlink()
    (folder / "9.mask.png").write_bytes((folder / "9.png").read_bytes())
    (folder / "30.png").write_bytes(b"no image")
    return folder


def image_files(folder, numbers=range(40), groups=None, masks=None, size=SIZE):
    return ImageFiles(
        location=Location(str(folder)),
        paths=CompressedPaths.from_column(pa.array([f"{number}.png" for number in numbers])),
        groups=np.arange(len(numbers)) // 16 if groups is None else groups,
        size=size,
        masks=None if masks is None else CompressedPaths.from_column(pa.array(masks, pa.string())),
    )
