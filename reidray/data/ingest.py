"""Decode a set once, with Ray Data across the cluster, and keep it where every worker reaches it.

A row of the dataset is a group of images, such as those of one person: no shuffle and no split can
then tear a person apart. The crops stay in the object store as uint8; the workers of a node map
one copy, without copying it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.crops import CropGroup, CropTable
from reidray.data.decoding import BadImage, decode_files
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.progress import Counter
from reidray.session import cluster_cpus

GROUP_LIMIT = 256
"""Most images of a row: a group with more is cut in several, so that tasks stay even."""

BLOCKS_PER_CPU = 8

GROUP_SCHEMA = pa.schema(
    {
        "rows": pa.list_(pa.int64()),
        "crops": pa.large_binary(),
        "masks": pa.large_binary(),
        "bad_paths": pa.list_(pa.string()),
        "bad_reasons": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class ResidentCrops:
    """Decoded crops in the object store; small enough to be sent to every worker.

    Attributes:
        blocks: references to Arrow tables of groups.
        height: rows of a crop.
        width: columns of a crop.
        rows: (N,) int64, the rows that have a crop.
        bad: the images that did not decode, or whose mask did not.
    """

    blocks: tuple["ray.ObjectRef[pa.Table]", ...]
    height: int
    width: int
    rows: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    def open(self) -> CropTable:
        """The crops, mapped into this process."""
        return CropTable(self._groups())

    def _groups(self) -> Iterator[CropGroup]:
        shape = (-1, self.height, self.width)
        for block in ray.get(list(self.blocks)):
            for rows, crops, masks in zip(
                block.column("rows"), block.column("crops"), block.column("masks"), strict=True
            ):
                yield CropGroup(
                    np.asarray(rows.values, dtype=np.int64),
                    np.frombuffer(crops.as_buffer(), np.uint8).reshape(*shape, 3),
                    np.frombuffer(masks.as_buffer(), np.uint8).reshape(shape)
                    if masks.is_valid
                    else None,
                )


def decode_resident(
    location: Location,
    paths: Sequence[str],
    groups: NDArray[np.int64],
    size: tuple[int, int],
    masks: Sequence[str | None] | None = None,
) -> ResidentCrops:
    """Decode images into the object store, those of one group together.

    Args:
        location: where the paths begin.
        paths: N relative paths; the index is the row a crop is found by.
        groups: (N,) int64, images of the same number are kept together: who is seen, or a label,
            or any count that makes groups of some ten to some hundred images.
        size: height and width of a crop.
        masks: N relative paths of the images' masks, decoded beside them; an image with none, or
            with one that cannot be used, is set aside as one that does not decode.

    Raises:
        UserError: the object stores of the cluster cannot hold the crops.
    """
    _check_memory(len(paths), size, channels=3 if masks is None else 4)
    plan = _plan(paths, groups, masks)
    count = min(plan.num_rows, max(1, cluster_cpus()) * BLOCKS_PER_CPU)
    dataset = (
        ray.data.from_arrow(plan)
        .repartition(count)
        .map_batches(
            _decode_groups,
            fn_kwargs={"location": location, "size": size},
            batch_size=None,
            batch_format="pyarrow",
        )
    )
    blocks: list[ray.ObjectRef[pa.Table]] = []
    rows: list[int] = []
    bad: list[BadImage] = []
    with Counter("decoding", total=len(paths), unit="images") as counter:
        for bundle in dataset.iter_internal_ref_bundles():
            for reference in bundle.block_refs:
                table = ray.get(reference)
                blocks.append(reference)
                bad.extend(_bad_images(table))
                rows.extend(row for group in table["rows"].to_pylist() for row in group)
                counter.advance(len(rows) + len(bad) - counter.done)
    bad.sort(key=lambda image: image.path)
    return ResidentCrops(tuple(blocks), *size, np.array(rows, dtype=np.int64), tuple(bad))


def _check_memory(count: int, size: tuple[int, int], channels: int) -> None:
    needed = count * size[0] * size[1] * channels
    available = ray.cluster_resources().get("object_store_memory", 0)
    if needed > 0.8 * available:
        raise UserError(
            f"{count:,} crops of {size[0]}x{size[1]} take {needed / 1e9:.1f} GB and the cluster's "
            f"object stores hold {available / 1e9:.1f} GB: use smaller crops or more memory"
        )


def _plan(
    paths: Sequence[str], groups: NDArray[np.int64], masks: Sequence[str | None] | None
) -> pa.Table:
    """What to decode: a group in each row."""
    members = _members(groups)
    columns = {
        "rows": pa.array(members, pa.list_(pa.int64())),
        "paths": pa.array([[paths[row] for row in rows] for rows in members]),
    }
    if masks is not None:
        beside = [[masks[row] for row in rows] for rows in members]
        columns["masks"] = pa.array(beside, pa.list_(pa.string()))
    return pa.table(columns)


def _members(groups: NDArray[np.int64]) -> list[list[int]]:
    """Rows of each group, cut where there are more than the limit."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return [
        rows[start : start + GROUP_LIMIT].tolist()
        for rows in np.split(order, starts[1:])
        for start in range(0, len(rows), GROUP_LIMIT)
    ]


def _decode_groups(plan: pa.Table, location: Location, size: tuple[int, int]) -> pa.Table:
    """Decode the images of some groups."""
    found = []
    for group in plan.to_pylist():
        decoded = decode_files(location, group["paths"], size, group.get("masks"))
        found.append(
            {
                "rows": [group["rows"][index] for index in decoded.kept],
                "crops": decoded.crops.tobytes(),
                "masks": None if decoded.masks is None else decoded.masks.tobytes(),
                "bad_paths": [image.path for image in decoded.bad],
                "bad_reasons": [image.reason for image in decoded.bad],
            }
        )
    return pa.Table.from_pylist(found, schema=GROUP_SCHEMA)


def _bad_images(table: pa.Table) -> list[BadImage]:
    columns = (table["bad_paths"].to_pylist(), table["bad_reasons"].to_pylist())
    return [
        BadImage(path, reason)
        for paths, reasons in zip(*columns, strict=True)
        for path, reason in zip(paths, reasons, strict=True)
    ]
