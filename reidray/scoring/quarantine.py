"""What a night sets aside, and what stands in its files for an image that was."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.images.decoding import BadImage
from reidray.storage.csv_files import write_csv


def attribute_rows(
    paths: Sequence[str],
    rows: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    keep_missing: bool,
) -> Iterator[tuple[str, Mapping[str, int] | None]]:
    """Name and attribute codes of each gallery image, in the order of the paths.

    Args:
        paths: N of them.
        rows: (M,) which of them decoded.
        codes: (M, A) the pedestrian attributes of these.
        keep_missing: give an image that was set aside None for codes; else it is left out.
    """
    places = np.full(len(paths), -1)
    places[rows] = np.arange(len(rows))
    for path, place in zip(paths, places, strict=True):
        if place >= 0:
            values = map(int, codes[place])
            yield path, dict(zip(PEDESTRIAN_SCHEMA.names, values, strict=True))
        elif keep_missing:
            yield path, None


def write_quarantine(bad: Mapping[str, Sequence[BadImage]]) -> bytes:
    """A CSV file of the images that were set aside: file, split, reason.

    Args:
        bad: by split, those of each.
    """
    rows = ((image.path, split, image.reason) for split, images in bad.items() for image in images)
    return write_csv(("file", "split", "reason"), rows)
