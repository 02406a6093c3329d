"""Crops on their way between processes: a group of them in each row of an Arrow table."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.crops import CropGroup
from reidray.data.decoding import DecodedImages

PIXEL_FIELDS = (
    ("rows", pa.list_(pa.int64())),
    ("crops", pa.large_binary()),
    ("masks", pa.large_binary()),
)


def pixel_columns(rows: NDArray[np.int64], decoded: DecodedImages) -> dict[str, Any]:
    """A row of such a table: the images of `rows` (N,) that decoded."""
    return {
        "rows": rows[list(decoded.kept)],
        "crops": decoded.crops.tobytes(),
        "masks": None if decoded.masks is None else decoded.masks.tobytes(),
    }


def crop_groups(table: pa.Table, size: tuple[int, int]) -> Iterator[CropGroup]:
    """The group of each row; its pixels are a view of the table's memory."""
    columns = (table.column(name) for name, _ in PIXEL_FIELDS)
    for rows, crops, masks in zip(*columns, strict=True):
        yield CropGroup(
            np.asarray(rows.values, dtype=np.int64),
            np.frombuffer(crops.as_buffer(), np.uint8).reshape(-1, *size, 3),
            np.frombuffer(masks.as_buffer(), np.uint8).reshape(-1, *size)
            if masks.is_valid
            else None,
        )
