"""Pictures that stand inside a page as data, so that it needs nothing else."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

DPI = 160
JPEG_QUALITY = 85


def as_png(figure: Figure) -> bytes:
    """A figure as PNG; the same bytes for the same figure."""
    written = BytesIO()
    figure.savefig(written, format="png", dpi=DPI, metadata={"Software": None})
    return written.getvalue()


def png_address(picture: bytes) -> str:
    """A `data:` address of a PNG picture."""
    return "data:image/png;base64," + b64encode(picture).decode("ascii")


def crop_address(crop: NDArray[np.uint8]) -> str:
    """A `data:` address of a crop (H, W, 3) uint8, as JPEG."""
    written = BytesIO()
    Image.fromarray(crop).save(written, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + b64encode(written.getvalue()).decode("ascii")
