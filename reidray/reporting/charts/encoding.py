"""Encode charts and crops for embedding in a page, so that the page needs no other file."""

import re
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO, StringIO

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

DPI = 160
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Chart:
    """Hold a chart as an SVG element of a page.

    Attributes:
        title: the caption.
        svg: the SVG element, escaped and without references to other files.
        wide: whether the chart fills the whole width of the page.
    """

    title: str
    svg: Markup
    wide: bool = False


def to_svg(title: str, figure: Figure, name: str, *, wide: bool = False) -> Chart:
    """Encode a figure as an SVG element.

    Args:
        title: the caption of the chart.
        figure: the Matplotlib figure.
        name: a prefix of the ids in the element; unique in the page.
        wide: whether the chart fills the whole width of the page.
    """
    written = StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=no_metadata, transparent=True)
    element = written.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)
    element = re.sub(r'<g id="[^"]*">\s*(<text.*?</text>)\s*</g>', r"\1", element)
    element = re.sub("<[^>]*>", lambda tag: _shorten_tag(tag[0]), element)
    return Chart(title, Markup(element), wide)


def _shorten_tag(tag: str) -> str:
    """Return a tag without turns by 0 degrees and fonts, with numbers cut to hundredths of a point.

    A page has fonts of its own.
    """
    tag = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*(; )?", "", tag)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG. The same figure gives the same bytes."""
    written = BytesIO()
    figure.savefig(written, format="png", dpi=DPI, metadata={"Software": None})
    return written.getvalue()


def png_data_uri(png: bytes) -> str:
    """Return the `data:` URI of a PNG image."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def crop_data_uri(crop: NDArray[np.uint8]) -> str:
    """Return the `data:` URI of a crop (H, W, 3) uint8, encoded as JPEG."""
    written = BytesIO()
    Image.fromarray(crop).save(written, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + b64encode(written.getvalue()).decode("ascii")
