"""Decode images once, in tasks across the cluster, and keep the crops in the object store.

Each task decodes some groups of images, such as those of one person, to a table of crops. The
tables stay in the object store as uint8, and the workers of a node map one copy of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup, CropTable
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.crop_columns import build_crop_table, iter_crop_groups
from reidray.data.ingest.image_files import DecodeOutcome, ImageFiles, wait_for_tasks


@dataclass(frozen=True)
class ResidentCrops:
    """Refer to decoded crops in the object store. The object is small enough for every worker.

    Attributes:
        blocks: references to tables of crops.
        size: height and width of a crop in pixels.
        indices: (M,) int64, the indices of the images that have a crop, ascending.
        bad: the images that do not decode, or whose masks do not.
    """

    blocks: tuple["ray.ObjectRef[pa.Table]", ...]
    size: tuple[int, int]
    indices: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    def open(self) -> CropTable:
        """Map the crops into this process."""
        return CropTable(self._iter_groups())

    def _iter_groups(self) -> Iterator[CropGroup]:
        for block in ray.get(list(self.blocks)):
            yield from iter_crop_groups(block, self.size)


def decode_resident(files: ImageFiles) -> ResidentCrops:
    """Decode images into the object store.

    Raises:
        OSError: the disk or the object store failed.
    """
    decode = ray.remote(_decode_groups).options(num_returns=2, scheduling_strategy="SPREAD")
    reference = ray.put(files)
    tasks = [decode.remote(groups, reference) for groups in files.split_into_tasks()]
    outcome = wait_for_tasks([task[1] for task in tasks], "decoding", len(files.paths))
    blocks = tuple(task[0] for task in tasks)
    return ResidentCrops(blocks, files.size, outcome.indices, outcome.bad)


def _decode_groups(
    groups: list[NDArray[np.int64]], files: ImageFiles
) -> tuple[pa.Table, DecodeOutcome]:
    """Decode the images of some groups to a table of crops."""
    results = [files.decode(indices) for indices in groups]
    table = build_crop_table(groups, results)
    kept = [indices[list(result.kept)] for indices, result in zip(groups, results, strict=True)]
    bad = tuple(image for result in results for image in result.bad)
    return table, DecodeOutcome(np.concatenate(kept), bad)
