"""Crops on their way between processes: a group of them in each row of an Arrow table."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup
from reidray.data.images.decoding import DecodeResult

PIXEL_FIELDS = (
    ("indices", pa.list_(pa.int64())),
    ("crops", pa.large_binary()),
    ("masks", pa.large_binary()),
)


def pixel_columns(indices: NDArray[np.int64], decoded: DecodeResult) -> dict[str, Any]:
    """A row of such a table: the images of `indices` (N,) that decoded."""
    return {
        "indices": indices[list(decoded.kept)],
        "crops": decoded.crops.tobytes(),
        "masks": None if decoded.masks is None else decoded.masks.tobytes(),
    }


def crop_groups(table: pa.Table, size: tuple[int, int]) -> Iterator[CropGroup]:
    """The group of each row; its pixels are a view of the table's memory."""
    columns = table["indices"], binary_views(table["crops"]), binary_views(table["masks"])
    for indices, crops, masks in zip(*columns, strict=True):
        yield CropGroup(
            np.asarray(indices.values, dtype=np.int64),
            crops.reshape(-1, *size, 3),
            masks.reshape(-1, *size) if table["masks"].null_count == 0 else None,
        )


def binary_views(column: pa.ChunkedArray) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each value of a large_binary column where they lie; a null has none.

    Arrow's own scalars are copies.
    """
    for chunk in column.chunks:
        _, offsets, content = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1]
        pixels = np.frombuffer(content or b"", np.uint8)
        for start, end in pairwise(bounds.tolist()):
            yield pixels[start:end]
