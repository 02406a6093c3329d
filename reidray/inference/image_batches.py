"""Images in batches of fixed size: planned by name, read, and what came of each.

The same images give the same embeddings, bit by bit, in batches of any make-up: every pass of a
network runs over exactly `BATCH` crops, each of which is computed alike wherever it stands.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import decode_files
from reidray.inference.digests import digest_lookup
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.storage.location import Location
from reidray.storage.retries import retry_count

BATCH = 64

DECODED_SCHEMA = pa.schema(
    {
        "set": pa.int64(),
        "rows": pa.list_(pa.int64()),
        "contents": pa.list_(pa.binary()),
        "kept": pa.list_(pa.int64()),
        "crops": pa.large_binary(),
        "bad": pa.list_(pa.int64()),
        "reasons": pa.list_(pa.string()),
        "retries": pa.int64(),
    }
)


@dataclass(frozen=True)
class ImageSet:
    """Images to embed.

    Attributes:
        location: the folder the paths are relative to.
        paths: N of them.
        skipped_files: how many files of the folder are no images, by suffix.
    """

    location: Location
    paths: tuple[str, ...]
    skipped_files: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageBatch:
    """Images of a set that are read together, B of them.

    Attributes:
        set: which of the sets, by its place.
        location: the folder the paths are relative to.
        rows: their indices in the set's paths.
        paths: of these.
    """

    set: int
    location: Location
    rows: tuple[int, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class BatchPredictions:
    """What came of some images of a set that were read together.

    Attributes:
        set: which of the sets, by its place.
        rows: their indices in the set's paths.
        contents: for each the SHA-256 of its file; empty where it could not be read.
        kept: (M,) int64, places in `rows` of those that were embedded.
        predictions: what the model says of these.
        bad: places in `rows` of those that did not decode.
        reasons: why, for each of these.
        retries: requests to an object store that were sent again.
    """

    set: int
    rows: Sequence[int]
    contents: Sequence[bytes]
    kept: NDArray[np.int64]
    predictions: Predictions
    bad: Sequence[int]
    reasons: Sequence[str]
    retries: int


def describe_images(batches: Sequence[ImageBatch]) -> str:
    """Return the images of some batches by their number, the first and the last."""
    first, last = batches[0], batches[-1]
    return (
        f"{sum(len(batch.paths) for batch in batches)} images, "
        f"{posixpath.join(first.location.uri, first.paths[0])} to "
        f"{posixpath.join(last.location.uri, last.paths[-1])}"
    )


def plan_batches(sets: Sequence[ImageSet], wanted: Sequence[NDArray[np.int64]]) -> list[ImageBatch]:
    """Batches of names.

    Args:
        sets: the images.
        wanted: of each set the rows to read.
    """
    return [
        ImageBatch(number, images.location, together, tuple(images.paths[row] for row in together))
        for number, (images, rows) in enumerate(zip(sets, wanted, strict=True))
        for together in _in_batches(rows.tolist())
    ]


def decode_batches(
    plan: Sequence[ImageBatch], size: tuple[int, int], known: NDArray[np.bytes_] | None
) -> Iterator[pa.Table]:
    """Read and decode planned batches, one at a time.

    Args:
        plan: the batches.
        size: height and width of a crop.
        known: sorted digests, (N,) S32, of contents that need not be decoded.
    """
    is_known = None if known is None else digest_lookup(known)
    for planned in plan:
        before = retry_count()
        decoded = decode_files(planned.location, planned.paths, size, known=is_known)
        place = {path: number for number, path in enumerate(planned.paths)}
        batch = {
            "set": planned.set,
            "rows": planned.rows,
            "contents": list(decoded.contents),
            "kept": list(decoded.kept),
            "crops": decoded.crops.tobytes(),
            "bad": [place[image.path] for image in decoded.bad],
            "reasons": [image.reason for image in decoded.bad],
            "retries": retry_count() - before,
        }
        yield pa.Table.from_pylist([batch], schema=DECODED_SCHEMA)


def read_batch(row: dict[str, Any], shape: PredictionShape) -> BatchPredictions:
    """What came of a batch, from the row of a table that holds it."""
    return BatchPredictions(
        set=row["set"],
        rows=row["rows"],
        contents=row["contents"],
        kept=np.array(row["kept"], dtype=np.int64),
        predictions=Predictions.from_bytes(row, shape, len(row["kept"])),
        bad=row["bad"],
        reasons=row["reasons"],
        retries=row["retries"],
    )


def _in_batches(rows: list[int]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(rows), BATCH):
        yield tuple(rows[start : start + BATCH])
