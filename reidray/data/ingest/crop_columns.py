"""Send crops between processes: a group of them in each row of an Arrow table."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup
from reidray.data.images.decoding import DecodeResult

CROP_FIELDS = (
    ("indices", pa.list_(pa.int64())),
    ("crops", pa.large_binary()),
    ("masks", pa.large_binary()),
)
"""Columns of a table of crops."""


def crop_row(indices: NDArray[np.int64], result: DecodeResult) -> dict[str, Any]:
    """Return the row of a table of crops that holds the images of a group that decode.

    Args:
        indices: (N,) int64, the indices of the images of the group.
        result: the result of decoding them.
    """
    return {
        "indices": indices[list(result.kept)],
        "crops": result.crops.tobytes(),
        "masks": None if result.masks is None else result.masks.tobytes(),
    }


def iter_crop_groups(table: pa.Table, size: tuple[int, int]) -> Iterator[CropGroup]:
    """Yield the group of each row of a table; its pixels are a view of the memory of the table.

    Args:
        table: a table with the columns of `CROP_FIELDS`.
        size: height and width of a crop in pixels.
    """
    columns = table["indices"], iter_binary_views(table["crops"]), iter_binary_views(table["masks"])
    for indices, crops, masks in zip(*columns, strict=True):
        yield CropGroup(
            np.asarray(indices.values, dtype=np.int64),
            crops.reshape(-1, *size, 3),
            masks.reshape(-1, *size) if table["masks"].null_count == 0 else None,
        )


def iter_binary_views(column: pa.ChunkedArray) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of each value of a large_binary column without a copy; none of a null.

    The scalars of Arrow would be copies.
    """
    for chunk in column.chunks:
        _, offsets, content = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1]
        pixels = np.frombuffer(content or b"", np.uint8)
        for start, end in pairwise(bounds.tolist()):
            yield pixels[start:end]
