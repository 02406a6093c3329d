"""Hold the predictions for images as rows of an Arrow table, which workers send and write."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.inference.image_batches import (
    DIGEST_BYTES,
    BatchPredictions,
    DecodedBatch,
    ImageBatch,
)
from reidray.inference.predictions import LoopTiming, Predictions, PredictionShape

TIMING = ("num_retries", "seconds", "input_wait_seconds")
"""Columns that hold the sum of a batch in its first row, and 0 in the others."""

_IMAGE_FIELDS = {
    "role": pa.string(),
    "path": pa.string(),
    "stamp": pa.string(),
    "content": pa.binary(DIGEST_BYTES),
    "reason": pa.string(),
    "num_retries": pa.int64(),
}


def row_schema(shape: PredictionShape) -> pa.Schema:
    """Return the schema of the rows of images with predictions.

    | column | content |
    |---|---|
    | `role`, `path`, `stamp` | the image |
    | `content` | SHA-256 digest of its file; null where the file cannot be read |
    | `reason` | why the image does not decode; null where it does |
    | `embedding` | D float32 as bytes, little endian; null where there is no prediction |
    | `codes` | A int8, the labels of the attributes; null where there is no prediction |
    | `doubt` | uncertainty of the attributes; null where there is no prediction |
    | `TIMING` | retries and times |

    Args:
        shape: sizes of the predictions, D and A.
    """
    return pa.schema(
        {
            **_IMAGE_FIELDS,
            "embedding": pa.binary(4 * shape.embedding_size),
            "codes": pa.list_(pa.int8()),
            "doubt": pa.float32(),
            "seconds": pa.float64(),
            "input_wait_seconds": pa.float64(),
        }
    )


def prediction_rows(results: Sequence[BatchPredictions], shape: PredictionShape) -> pa.Table:
    """Return a row for each image of some batches, in their order (see `row_schema`).

    Args:
        results: the predictions for some batches.
        shape: sizes of the predictions.
    """
    tables = [
        with_predictions(
            _image_rows(result.batch, result.digests, result.bad, result.num_retries),
            result.positions,
            result.predictions,
            result.timing,
            shape,
        )
        for result in results
    ]
    return pa.concat_tables([row_schema(shape).empty_table(), *tables])


def decoded_rows(decoded: DecodedBatch) -> pa.Table:
    """Return a row for each image of a batch, with its crop as bytes in the column `crop`.

    The crop of an image that does not decode, or needs no prediction, is null.
    """
    rows = _image_rows(decoded.batch, decoded.digests, decoded.bad, decoded.num_retries)
    crops = decoded.crops.reshape(len(decoded.crops), math.prod(decoded.crops.shape[1:]))
    return rows.append_column("crop", _pack(crops, decoded.positions, len(rows)))


def read_crops(
    rows: pa.Table, size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the crops of some rows of `decoded_rows`.

    Args:
        rows: the rows.
        size: height and width of a crop in pixels.

    Returns:
        (M,) int64, the rows with a crop, and (M, H, W, 3) uint8.
    """
    column = rows["crop"].combine_chunks()
    positions = np.flatnonzero(np.asarray(column.is_valid()))
    crops = unpack_bytes(column).reshape(len(column), *size, 3)
    return positions, crops if len(positions) == len(column) else crops[positions]


def with_predictions(
    rows: pa.Table,
    positions: NDArray[np.int64],
    predictions: Predictions,
    timing: LoopTiming,
    shape: PredictionShape,
) -> pa.Table:
    """Return rows of images with predictions for some of them (see `row_schema`).

    Args:
        rows: N rows with the columns of an image.
        positions: (M,) int64, the rows with predictions.
        predictions: predictions for these M images.
        timing: time that the predictions took.
        shape: sizes of the predictions.
    """
    count = len(rows)
    columns = {
        **{name: rows[name] for name in _IMAGE_FIELDS},
        "embedding": pack_embeddings(predictions.embeddings, positions, count),
        "codes": pack_labels(predictions.attribute_labels, positions, count),
        "doubt": pack_numbers(predictions.uncertainty, positions, count),
        "seconds": _in_first_row(timing.seconds, count),
        "input_wait_seconds": _in_first_row(timing.input_wait_seconds, count),
    }
    return pa.table(columns, schema=row_schema(shape))


def sum_timing(rows: pa.Table) -> LoopTiming:
    """Return the time that the predictions of some rows took."""
    seconds, waited = (float(np.sum(rows[name].to_numpy())) for name in TIMING[1:])
    return LoopTiming(len(rows), seconds, waited)


def pack_embeddings(
    embeddings: NDArray[np.float32], positions: NDArray[np.int64], num_rows: int
) -> pa.FixedSizeBinaryArray:
    """Return embeddings as bytes, which Parquet reads ten times as fast as lists.

    Args:
        embeddings: (M, D) float32.
        positions: (M,) int64, the row of each embedding.
        num_rows: number of rows; those without an embedding are null.
    """
    return _pack(np.ascontiguousarray(embeddings, "<f4").view(np.uint8), positions, num_rows)


def unpack_bytes(array: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """Return (N, B) uint8, a view of N values of B bytes; a null has any bytes."""
    num_bytes = array.type.byte_width
    packed = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    packed = packed[array.offset * num_bytes :][: len(array) * num_bytes]
    return packed.reshape(len(array), num_bytes)


def pack_labels(
    labels: NDArray[np.int64], positions: NDArray[np.int64], num_rows: int
) -> pa.ListArray:
    """Return (M, A) labels as lists of int8; rows without labels are null."""
    valid = _mark(positions, num_rows)
    offsets = np.concatenate([[0], np.cumsum(valid * labels.shape[1])]).astype(np.int32)
    by_row = np.argsort(positions, kind="stable")
    return pa.ListArray.from_arrays(
        offsets, pa.array(labels[by_row].astype(np.int8).ravel()), mask=pa.array(~valid)
    )


def pack_numbers(
    numbers: NDArray[np.float32], positions: NDArray[np.int64], num_rows: int
) -> pa.Array:
    """Return (M,) numbers, null in the other rows."""
    values = np.zeros(num_rows, np.float32)
    values[positions] = numbers
    return pa.array(values, mask=~_mark(positions, num_rows))


def _pack(
    values: NDArray[np.uint8], positions: NDArray[np.int64], num_rows: int
) -> pa.FixedSizeBinaryArray:
    """Return (M, B) bytes at some rows, null in the others."""
    packed = np.zeros((num_rows, values.shape[1]), np.uint8)
    packed[positions] = values
    valid = pa.array(_mark(positions, num_rows)).buffers()[1]
    kind = pa.binary(values.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, num_rows, [valid, pa.py_buffer(packed)])


def _mark(positions: NDArray[np.int64], num_rows: int) -> NDArray[np.bool_]:
    valid = np.zeros(num_rows, bool)
    valid[positions] = True
    return valid


def _image_rows(
    batch: ImageBatch, digests: Sequence[bytes], bad: Mapping[int, str], num_retries: int
) -> pa.Table:
    """Return a row for each image of a batch, with the columns of an image."""
    count = len(batch.paths)
    columns = {
        "role": pa.repeat(batch.set_name, count),
        "path": pa.array(batch.paths, pa.string()),
        "stamp": pa.array(batch.stamps or [""] * count, pa.string()),
        "content": pa.array([digest or None for digest in digests], pa.binary(DIGEST_BYTES)),
        "reason": pa.array([bad.get(place) for place in range(count)], pa.string()),
        "num_retries": _in_first_row(num_retries, count),
    }
    return pa.table(columns, schema=pa.schema(_IMAGE_FIELDS))


def _in_first_row(value: float, count: int) -> pa.Array:
    return pa.array([value, *[0] * (count - 1)][:count], pa.from_numpy_dtype(type(value)))
