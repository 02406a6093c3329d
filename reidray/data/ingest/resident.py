"""Decode a set once, with Ray Data across the cluster, and keep it where every worker reaches it.

A row of the dataset is a group of images, such as those of one person: no shuffle and no split can
then tear a person apart. The crops stay in the object store as uint8; the workers of a node map
one copy, without copying it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup, CropTable
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.crop_columns import PIXEL_FIELDS, crop_groups, pixel_columns
from reidray.data.ingest.image_files import BAD_FIELDS, ImageFiles, bad_columns, bad_images
from reidray.progress import Counter

GROUP_SCHEMA = pa.schema([*PIXEL_FIELDS, *BAD_FIELDS])


@dataclass(frozen=True)
class ResidentCrops:
    """Decoded crops in the object store; small enough to be sent to every worker.

    Attributes:
        blocks: references to Arrow tables of groups.
        size: height and width of a crop.
        indices: (N,) int64, the indices that have a crop, ascending.
        bad: the images that did not decode, or whose mask did not.
    """

    blocks: tuple["ray.ObjectRef[pa.Table]", ...]
    size: tuple[int, int]
    indices: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    def open(self) -> CropTable:
        """The crops, mapped into this process."""
        return CropTable(self._groups())

    def _groups(self) -> Iterator[CropGroup]:
        for block in ray.get(list(self.blocks)):
            yield from crop_groups(block, self.size)


def decode_resident(files: ImageFiles) -> ResidentCrops:
    """Decode images into the object store, those of one group together."""
    dataset = files.in_groups().map_batches(
        _decode_groups, fn_kwargs={"files": ray.put(files)}, batch_size=None, batch_format="pyarrow"
    )
    blocks: list[ray.ObjectRef[pa.Table]] = []
    indices: list[int] = []
    bad: list[BadImage] = []
    with Counter("decoding", total=len(files.paths), unit="images") as counter:
        for bundle in dataset.iter_internal_ref_bundles():
            for reference in bundle.block_refs:
                table = ray.get(reference)
                blocks.append(reference)
                bad.extend(bad_images(table))
                indices.extend(row for group in table["indices"].to_pylist() for row in group)
                counter.advance(len(indices) + len(bad) - counter.done)
    bad.sort(key=lambda image: image.path)
    return ResidentCrops(
        tuple(blocks), files.size, np.sort(np.array(indices, dtype=np.int64)), tuple(bad)
    )


def _decode_groups(plan: pa.Table, files: "ray.ObjectRef[ImageFiles]") -> pa.Table:
    """Decode the images of some groups."""
    known: ImageFiles = ray.get(files)
    found = []
    for group in plan["indices"]:
        indices = group.values.to_numpy()
        decoded = known.decode(indices)
        found.append(pixel_columns(indices, decoded) | bad_columns(decoded))
    return pa.Table.from_pylist(found, schema=GROUP_SCHEMA)
