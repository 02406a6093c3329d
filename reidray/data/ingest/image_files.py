"""Which images are to be had as crops, and how they are shared out among tasks."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, DecodeResult, decode_files
from reidray.storage.location import Location

GROUP_LIMIT = 256
"""Most images of a group: one with more is cut in several, so that tasks stay even."""

BLOCKS_PER_CPU = 8


@dataclass(frozen=True)
class ImageFiles:
    """Images to be had as crops of one size.

    Attributes:
        location: where the paths begin.
        paths: N strings, relative paths; the index is the row a crop is found by.
        groups: (N,) int64, images of the same number are kept together: who is seen, or a label,
            or any count that makes groups of some ten to some hundred images.
        size: height and width of a crop.
        masks: N strings or nulls, relative paths of the images' masks, decoded beside them; an
            image with none, or with one that cannot be used, is set aside as one that does not
            decode. None asks for no masks.
    """

    location: Location
    paths: pa.StringArray
    groups: NDArray[np.int64]
    size: tuple[int, int]
    masks: pa.StringArray | None = None

    @property
    def decoded_bytes(self) -> int:
        """What all crops take, with their masks."""
        channels = 3 if self.masks is None else 4
        return len(self.paths) * self.size[0] * self.size[1] * channels

    def decode(
        self, indices: NDArray[np.int64], size: tuple[int, int] | None = None
    ) -> DecodeResult:
        """The images of some indices, of the crops' size or another one."""
        chosen = pa.array(indices)
        paths = self.paths.take(chosen).to_pylist()
        masks = None if self.masks is None else self.masks.take(chosen).to_pylist()
        return decode_files(self.location, paths, size or self.size, masks)

    def in_groups(self) -> ray.data.Dataset:
        """Return a dataset with the indices of a group in each row, in some blocks for each CPU."""
        members = self._members()
        count = min(len(members), max(1, cluster_cpus()) * BLOCKS_PER_CPU)
        table = pa.table({"indices": pa.array(members, pa.list_(pa.int64()))})
        return ray.data.from_arrow(table).repartition(count)

    def _members(self) -> list[list[int]]:
        """Indices of each group, cut where there are more than the limit."""
        order = np.argsort(self.groups, kind="stable")
        _, starts = np.unique(self.groups[order], return_index=True)
        return [
            indices[start : start + GROUP_LIMIT].tolist()
            for indices in np.split(order, starts[1:])
            for start in range(0, len(indices), GROUP_LIMIT)
        ]


BAD_FIELDS = (("bad_paths", pa.list_(pa.string())), ("bad_reasons", pa.list_(pa.string())))
"""Columns that carry the images which did not decode."""


def bad_columns(decoded: DecodeResult) -> dict[str, list[str]]:
    """The images that did not decode, as a row of these columns."""
    return {
        "bad_paths": [image.path for image in decoded.bad],
        "bad_reasons": [image.reason for image in decoded.bad],
    }


def bad_images(table: pa.Table) -> list[BadImage]:
    """The images that did not decode, out of these columns."""
    columns = (table["bad_paths"].to_pylist(), table["bad_reasons"].to_pylist())
    return [
        BadImage(path, reason)
        for paths, reasons in zip(*columns, strict=True)
        for path, reason in zip(paths, reasons, strict=True)
    ]
