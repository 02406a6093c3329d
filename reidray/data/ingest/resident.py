"""Decode images once, with Ray Data across the cluster, and keep the crops in the object store.

A row of the dataset is a group of images, such as those of one person, so that no shuffle and no
split can divide it. The crops stay in the object store as uint8, and the workers of a node map one
copy of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup, CropTable, Indices
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.crop_columns import CROP_FIELDS, crop_row, iter_crop_groups
from reidray.data.ingest.group_tasks import (
    OUTCOME_FIELDS,
    group_dataset,
    outcome_row,
    read_outcome,
)
from reidray.data.ingest.image_files import ImageFiles
from reidray.progress import Counter

GROUP_SCHEMA = pa.schema(dict([*CROP_FIELDS, *OUTCOME_FIELDS]))


@dataclass(frozen=True)
class ResidentCrops:
    """Refer to decoded crops in the object store. The object is small enough for every worker.

    Attributes:
        blocks: references to tables of crops.
        size: height and width of a crop in pixels.
        decoded: (N,) bool, mask of the images that have a crop.
        bad: the images that do not decode, or whose masks do not.
    """

    blocks: tuple["ray.ObjectRef[pa.Table]", ...]
    size: tuple[int, int]
    decoded: NDArray[np.bool_]
    bad: tuple[BadImage, ...]

    def open(self) -> CropTable:
        """Map the crops into this process."""
        return CropTable(self._iter_groups())

    def sample(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of a few batches of indices, which tasks pick where the blocks lie.

        Raises:
            KeyError: an index has no crop.
        """
        wanted = ray.put(np.unique(np.concatenate(batches)))
        pick = ray.remote(_pick_crops)
        picked = ray.get([pick.remote(block, self.size, wanted) for block in self.blocks])
        groups = (group for table in picked for group in iter_crop_groups(table, self.size))
        return CropTable(groups).read(batches)

    def _iter_groups(self) -> Iterator[CropGroup]:
        for block in ray.get(list(self.blocks)):
            yield from iter_crop_groups(block, self.size)


def decode_resident(files: ImageFiles) -> ResidentCrops:
    """Decode images into the object store.

    The driver reads which images decode, and leaves the crops where they are.

    Raises:
        OSError: the disk or the object store failed.
    """
    with Counter("decoding", total=len(files.paths), unit="images") as counter:
        dataset = group_dataset(files).map_batches(
            _decode_groups,
            fn_kwargs={"files": ray.put(files.without_groups())},
            batch_size=None,
            batch_format="pyarrow",
        )
        crops = dataset.materialize()
        outcome_columns = [name for name, _ in OUTCOME_FIELDS]
        columns = crops.select_columns(outcome_columns)
        outcome = read_outcome(columns, len(files.paths), counter)
    return ResidentCrops(tuple(crops.to_arrow_refs()), files.size, outcome.decoded, outcome.bad)


def _decode_groups(groups: pa.Table, files: "ray.ObjectRef[ImageFiles]") -> pa.Table:
    """Decode the images of some groups to a table of crops."""
    image_files: ImageFiles = ray.get(files)
    rows = []
    for group in groups["indices"]:
        indices = group.values.to_numpy()
        result = image_files.decode(indices)
        rows.append(crop_row(indices, result) | outcome_row(indices, result))
    return pa.Table.from_pylist(rows, schema=GROUP_SCHEMA)


def _pick_crops(block: pa.Table, size: tuple[int, int], indices: Indices) -> pa.Table:
    """Return a table of the crops of a block whose index is one of some indices."""
    rows = []
    for group in iter_crop_groups(block, size):
        keep = np.isin(group.indices, indices)
        if keep.any():
            masks = None if group.masks is None else group.masks[keep].tobytes()
            crops = group.crops[keep].tobytes()
            rows.append({"indices": group.indices[keep], "crops": crops, "masks": masks})
    return pa.Table.from_pylist(rows, schema=pa.schema(dict(CROP_FIELDS)))
