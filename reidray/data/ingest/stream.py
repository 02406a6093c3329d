"""Decode the crops of each batch while the network computes, with Ray Data.

Memory does not grow with the data set. A row of the dataset is a whole batch, which is planned in
advance and decoded in a task, so that no shuffle and no split between workers can divide it. Each
training process streams its own part of each global batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.images.crops import Allocate, CropGroup, Indices, allocate_array
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.crop_columns import CROP_FIELDS, crop_row, iter_crop_groups
from reidray.data.ingest.group_tasks import (
    OUTCOME_FIELDS,
    group_dataset,
    outcome_row,
    read_outcome,
)
from reidray.data.ingest.image_files import ImageFiles
from reidray.errors import UserError
from reidray.progress import Counter

TASKS_PER_EPOCH = 1000
"""Approximate number of tasks of an epoch. A task decodes several batches."""

MAX_BATCHES_PER_TASK = 16
"""Batches that a task decodes at most, as finished tasks wait for it to keep the order."""

BATCH_SCHEMA = pa.schema(dict(CROP_FIELDS))
CHECK_SIZE = (16, 16)
"""Size of the crops of the check, which are discarded: a JPEG is decoded at 1/8 of its size."""


@dataclass(frozen=True)
class StreamingCrops:
    """Refer to images that decode, which training processes decode again when they need them.

    Attributes:
        files: a reference to the images.
        decoded: (N,) bool, mask of the images that decode.
        bad: the images that do not decode, or whose masks do not.
    """

    files: "ray.ObjectRef[ImageFiles]"
    decoded: NDArray[np.bool_]
    bad: tuple[BadImage, ...]

    def open(self) -> "CropStream":
        """Return a reader of the crops for this process."""
        return CropStream(self.files)

    def sample(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of a few batches of indices, which Ray Data decodes.

        Raises:
            UserError: an image does not decode any more.
        """
        return self.open().read(batches)


class CropStream:
    """Read crops that Ray Data decodes in advance."""

    def __init__(self, files: "ray.ObjectRef[ImageFiles]") -> None:
        self._files = files
        self._size = ray.get(files).size

    def read(
        self, batches: Sequence[Indices], allocate: Allocate = allocate_array
    ) -> Iterator[CropGroup]:
        """Yield a copy of the crops of each batch of indices, in the order of the batches.

        Raises:
            UserError: an image does not decode, though it did in the check.
        """
        if not batches:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        batches_per_task = min(MAX_BATCHES_PER_TASK, -(-len(batches) // TASKS_PER_EPOCH))
        dataset = ray.data.range(
            len(batches), override_num_blocks=-(-len(batches) // batches_per_task)
        ).map_batches(
            _decode_batches,
            fn_kwargs={"plan": ray.put(_plan(batches)), "files": self._files},
            batch_size=None,
            batch_format="pyarrow",
        )
        blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        for block in blocks:
            for group in iter_crop_groups(block, self._size):
                masks = None if group.masks is None else _copy_into(allocate, group.masks)
                yield CropGroup(group.indices, _copy_into(allocate, group.crops), masks)


def check_stream(files: ImageFiles) -> StreamingCrops:
    """Decode every image once at a small size, so that bad images are known before training.

    Raises:
        OSError: the disk or the object store failed.
    """
    reference = ray.put(files.without_groups())
    dataset = group_dataset(files).map_batches(
        _check_groups, fn_kwargs={"files": reference}, batch_size=None, batch_format="pyarrow"
    )
    with Counter("checking", total=len(files.paths), unit="images") as counter:
        outcome = read_outcome(dataset, len(files.paths), counter)
    return StreamingCrops(reference, outcome.decoded, outcome.bad)


def _copy_into(allocate: Allocate, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy images out of shared memory, which their block then leaves."""
    copied = allocate(images.shape)
    np.copyto(copied, images)
    return copied


def _plan(batches: Sequence[Indices]) -> pa.Table:
    """Return the indices of each batch as a table, which tasks map without a copy."""
    offsets = np.cumsum([0, *map(len, batches)])
    indices = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(batches)))
    return pa.table({"indices": indices})


def _decode_batches(
    numbers: pa.Table, plan: "ray.ObjectRef[pa.Table]", files: "ray.ObjectRef[ImageFiles]"
) -> Iterator[pa.Table]:
    """Decode some batches of the plan, and yield the table of each."""
    batches, image_files = ray.get(plan)["indices"], ray.get(files)
    for number in numbers["id"].to_pylist():
        indices = batches[number].values.to_numpy()
        result = image_files.decode(indices)
        for image in result.bad:
            raise UserError(
                f"{image.path} does not decode any more ({image.reason}): it did before the first "
                "epoch; leave the images alone while training reads them"
            )
        yield pa.Table.from_pylist([crop_row(indices, result)], schema=BATCH_SCHEMA)


def _check_groups(groups: pa.Table, files: "ray.ObjectRef[ImageFiles]") -> pa.Table:
    """Find the images of some groups that do not decode."""
    image_files: ImageFiles = ray.get(files)
    rows = []
    for group in groups["indices"]:
        indices = group.values.to_numpy()
        rows.append(outcome_row(indices, image_files.decode(indices, CHECK_SIZE)))
    return pa.Table.from_pylist(rows, schema=pa.schema(dict(OUTCOME_FIELDS)))
