"""What a night sets aside, and what stands in its files for an image that was."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reidray.data.attributes import PEDESTRIAN_SCHEMA
from reidray.data.decoding import BadImage
from reidray.scoring.embedder import EmbeddedSet, ImageSet


def attribute_rows(
    gallery: ImageSet, embedded: EmbeddedSet, *, keep_missing: bool
) -> Iterator[tuple[str, Mapping[str, int] | None]]:
    """Name and attribute codes of each gallery image, sorted by name.

    Args:
        gallery: the images.
        embedded: what a model of the pedestrian attributes says of them.
        keep_missing: give an image that was set aside None for codes; else it is left out.
    """
    places = np.full(len(gallery.paths), -1)
    places[embedded.rows] = np.arange(len(embedded.rows))
    for path, place in zip(gallery.paths, places, strict=True):
        if place >= 0:
            codes = map(int, embedded.codes[place])
            yield path, dict(zip(PEDESTRIAN_SCHEMA.names, codes, strict=True))
        elif keep_missing:
            yield path, None


def write_quarantine(bad: Mapping[str, Sequence[BadImage]]) -> bytes:
    """A CSV file of the images that were set aside: file, split, reason.

    Args:
        bad: by split, those of each.
    """
    text = io.StringIO(newline="")
    quarantine = csv.writer(text, lineterminator="\n")
    quarantine.writerow(("file", "split", "reason"))
    for split, images in bad.items():
        quarantine.writerows((image.path, split, image.reason) for image in images)
    return text.getvalue().encode()
