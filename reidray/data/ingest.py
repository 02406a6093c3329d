"""Decode a set once, with Ray Data across the cluster, and keep it where every worker reaches it.

A row of the dataset is an identity group: the images of one person. No shuffle and no split can
then tear a person apart. The crops stay in the object store as uint8; the workers of a node map
one copy, without copying it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.crops import CropTable, IdentityGroup
from reidray.data.decoding import BadImage, decode_files
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.progress import Counter
from reidray.session import cluster_cpus

GROUP_LIMIT = 256
"""Most images of a group: a person with more is cut in several, so that tasks stay even."""

BLOCKS_PER_CPU = 8

GROUP_SCHEMA = pa.schema(
    {
        "rows": pa.list_(pa.int64()),
        "crops": pa.large_binary(),
        "bad_paths": pa.list_(pa.string()),
        "bad_reasons": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class ResidentCrops:
    """Decoded crops in the object store; small enough to be sent to every worker.

    Attributes:
        blocks: references to Arrow tables of identity groups.
        height: rows of a crop.
        width: columns of a crop.
        rows: (N,) int64, the rows that have a crop.
        bad: the images that did not decode.
    """

    blocks: tuple["ray.ObjectRef[pa.Table]", ...]
    height: int
    width: int
    rows: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    def open(self) -> CropTable:
        """The crops, mapped into this process."""
        return CropTable(self._groups())

    def _groups(self) -> Iterator[IdentityGroup]:
        for block in ray.get(list(self.blocks)):
            rows, crops = block.column("rows"), block.column("crops")
            for index in range(block.num_rows):
                numbers = np.asarray(rows[index].values, dtype=np.int64)
                pixels = np.frombuffer(crops[index].as_buffer(), dtype=np.uint8)
                yield IdentityGroup(numbers, pixels.reshape(-1, self.height, self.width, 3))


def decode_resident(
    location: Location, paths: Sequence[str], people: NDArray[np.int64], size: tuple[int, int]
) -> ResidentCrops:
    """Decode images into the object store, those of one person together.

    Args:
        location: where the paths begin.
        paths: N relative paths; the index is the row a crop is found by.
        people: (N,) int64, who is seen.
        size: height and width of a crop.

    Raises:
        UserError: the object stores of the cluster cannot hold the crops.
    """
    _check_memory(len(paths), size)
    groups = _groups_of(people)
    plan = pa.table(
        {
            "rows": pa.array([group.tolist() for group in groups], pa.list_(pa.int64())),
            "paths": pa.array([[paths[row] for row in group] for group in groups]),
        }
    )
    count = min(len(groups), max(1, cluster_cpus()) * BLOCKS_PER_CPU)
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


def _check_memory(count: int, size: tuple[int, int]) -> None:
    needed = count * size[0] * size[1] * 3
    available = ray.cluster_resources().get("object_store_memory", 0)
    if needed > 0.8 * available:
        raise UserError(
            f"{count:,} crops of {size[0]}x{size[1]} take {needed / 1e9:.1f} GB and the cluster's "
            f"object stores hold {available / 1e9:.1f} GB: use smaller crops or more memory"
        )


def _groups_of(people: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each person, cut where there are more than the limit."""
    order = np.argsort(people, kind="stable")
    _, starts = np.unique(people[order], return_index=True)
    groups = []
    for rows in np.split(order, starts[1:]):
        pieces = iter(rows.tolist())
        while piece := list(islice(pieces, GROUP_LIMIT)):
            groups.append(np.array(piece, dtype=np.int64))
    return groups


def _decode_groups(plan: pa.Table, location: Location, size: tuple[int, int]) -> pa.Table:
    """Decode the images of some groups."""
    found = []
    for rows, paths in zip(plan["rows"].to_pylist(), plan["paths"].to_pylist(), strict=True):
        decoded = decode_files(location, paths, size)
        found.append(
            {
                "rows": [rows[index] for index in decoded.kept],
                "crops": decoded.crops.tobytes(),
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
