"""Hold the images that a training reads, and divide them among the tasks of Ray Data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, DecodeResult, decode_files
from reidray.data.joined_folders import JoinedFolders
from reidray.progress import Counter
from reidray.storage.location import Location

GROUP_LIMIT = 256
"""Images that a group holds at most; a larger group is divided, so that tasks are of even size."""

BLOCKS_PER_CPU = 8


@dataclass(frozen=True)
class ImageFiles:
    """Hold N images to decode to crops of one size.

    Attributes:
        location: the root of the paths, or the joined folders in which they are read.
        paths: (N,) strings, relative paths; a crop is found by the index of its path.
        groups: (N,) int64, a number per image. Images of the same number lie together in memory:
            those of a person, of a class, or of another division into groups of 10 to 500 images.
        size: height and width of a crop in pixels.
        masks: (N,) strings or nulls, the relative paths of the masks. An image whose mask is null
            or does not decode counts as a bad image. None decodes no masks.
    """

    location: Location | JoinedFolders
    paths: pa.StringArray
    groups: NDArray[np.int64]
    size: tuple[int, int]
    masks: pa.StringArray | None = None

    @property
    def decoded_bytes(self) -> int:
        """Return the number of bytes of all crops, with their masks."""
        channels = 3 if self.masks is None else 4
        return len(self.paths) * self.size[0] * self.size[1] * channels

    def decode(
        self, indices: NDArray[np.int64], size: tuple[int, int] | None = None
    ) -> DecodeResult:
        """Decode some of the images.

        Args:
            indices: (M,) int64, the indices of their paths.
            size: height and width in pixels; None for the size of the crops.
        """
        chosen = pa.array(indices)
        paths = self.paths.take(chosen).to_pylist()
        masks = None if self.masks is None else self.masks.take(chosen).to_pylist()
        return decode_files(self.location, paths, size or self.size, masks)

    def to_dataset(self) -> ray.data.Dataset:
        """Return a dataset whose rows hold the indices of a group, in a few blocks per CPU."""
        groups = self._split_into_groups()
        count = min(len(groups), max(1, cluster_cpus()) * BLOCKS_PER_CPU)
        table = pa.table({"indices": pa.array(groups, pa.list_(pa.int64()))})
        return ray.data.from_arrow(table).repartition(count)

    def _split_into_groups(self) -> list[NDArray[np.int64]]:
        """Return the indices of each group; large groups are divided."""
        order = np.argsort(self.groups, kind="stable")
        _, starts = np.unique(self.groups[order], return_index=True)
        return [
            indices[start : start + GROUP_LIMIT]
            for indices in np.split(order, starts[1:])
            for start in range(0, len(indices), GROUP_LIMIT)
        ]


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


@dataclass(frozen=True)
class DecodeOutcome:
    """Hold the result of decoding: the images that decode, and the bad ones.

    Attributes:
        indices: (M,) int64, the indices of the images that decode, ascending.
        bad: the other images, sorted by path.
    """

    indices: NDArray[np.int64]
    bad: tuple[BadImage, ...]


def read_outcome(dataset: ray.data.Dataset, counter: Counter) -> DecodeOutcome:
    """Read the outcome columns of a dataset, and count the images as they arrive.

    Args:
        dataset: a dataset with the columns of `OUTCOME_FIELDS`.
        counter: the counter of images.

    Raises:
        OSError: the disk or the object store failed.
    """
    indices, bad = [np.zeros(0, np.int64)], []
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        indices.append(table["indices"].combine_chunks().values.to_numpy())
        images = list(_iter_bad_images(table))
        bad += images
        counter.advance(len(indices[-1]) + len(images))
    return DecodeOutcome(
        np.sort(np.concatenate(indices)), tuple(sorted(bad, key=lambda image: image.path))
    )


def _iter_bad_images(table: pa.Table) -> Iterator[BadImage]:
    """Yield the bad images of a table with the outcome columns."""
    columns = table["bad_paths"].to_pylist(), table["bad_reasons"].to_pylist()
    for paths, reasons in zip(*columns, strict=True):
        yield from map(BadImage, paths, reasons)
