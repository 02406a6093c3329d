"""Divide images among the tasks of Ray Data, and collect which of them decode."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, DecodeResult
from reidray.data.ingest.image_files import ImageFiles
from reidray.progress import Counter

BLOCKS_PER_CPU = 8

OUTCOME_FIELDS = (
    ("indices", pa.list_(pa.int64())),
    ("bad_paths", pa.list_(pa.string())),
    ("bad_reasons", pa.list_(pa.string())),
)
"""Columns of a task for the images of a group that decode, and for the bad ones."""


def outcome_row(indices: NDArray[np.int64], result: DecodeResult) -> dict[str, Any]:
    """Return the values of the outcome columns for a group.

    Args:
        indices: (N,) int64, the indices of the images of the group.
        result: the result of decoding them.
    """
    return {
        "indices": indices[list(result.kept)],
        "bad_paths": [image.path for image in result.bad],
        "bad_reasons": [image.reason for image in result.bad],
    }


def group_dataset(files: ImageFiles) -> ray.data.Dataset:
    """Return a dataset whose rows hold the indices of a group, in a few blocks per CPU."""
    groups = files.split_into_groups()
    count = min(len(groups), max(1, cluster_cpus()) * BLOCKS_PER_CPU)
    table = pa.table({"indices": groups})
    return ray.data.from_arrow(table).repartition(count)


@dataclass(frozen=True)
class DecodeOutcome:
    """Hold the result of decoding: the images that decode, and the bad ones.

    Attributes:
        decoded: (N,) bool, mask of the images that decode.
        bad: the other images, sorted by path.
    """

    decoded: NDArray[np.bool_]
    bad: tuple[BadImage, ...]


def read_outcome(dataset: ray.data.Dataset, count: int, counter: Counter) -> DecodeOutcome:
    """Read the outcome columns of a dataset, and count the images as they arrive.

    Args:
        dataset: a dataset with the columns of `OUTCOME_FIELDS`.
        count: the number of images.
        counter: the counter of images.

    Raises:
        OSError: the disk or the object store failed.
    """
    decoded, bad = np.zeros(count, dtype=np.bool_), []
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        indices = table["indices"].combine_chunks().values.to_numpy()
        decoded[indices] = True
        images = list(_iter_bad_images(table))
        bad += images
        counter.advance(len(indices) + len(images))
    return DecodeOutcome(decoded, tuple(sorted(bad, key=lambda image: image.path)))


def _iter_bad_images(table: pa.Table) -> Iterator[BadImage]:
    """Yield the bad images of a table with the outcome columns."""
    columns = table["bad_paths"].to_pylist(), table["bad_reasons"].to_pylist()
    for paths, reasons in zip(*columns, strict=True):
        yield from map(BadImage, paths, reasons)
