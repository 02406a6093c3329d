"""Decode the crops of each batch while the network computes: memory does not grow with the set.

A row of the dataset is a ready batch, planned before and decoded in a task, so that no shuffle and
no split between workers can tear it apart. Each training process streams its own part of each
global batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup, Indices
from reidray.data.images.decoding import BadImage
from reidray.data.ingest.crop_columns import PIXEL_FIELDS, crop_groups, pixel_columns
from reidray.data.ingest.image_files import BAD_FIELDS, ImageFiles, bad_columns, bad_images
from reidray.errors import UserError
from reidray.progress import Counter

TASKS = 1000
"""Tasks of an epoch, about: each decodes so many batches that there are no more."""

BATCHES_PER_TASK = 16
"""Most batches of a task, which its neighbours' finished ones have to wait for."""

BATCH_SCHEMA = pa.schema(PIXEL_FIELDS)
SURVEY_SIZE = (16, 16)
"""Crops of the first look, which are thrown away: a JPEG is decoded at an eighth of its scale."""


@dataclass(frozen=True)
class StreamingCrops:
    """Images that decode, to be decoded again when they are needed.

    Attributes:
        files: reference to the images.
        indices: (N,) int64, the indices that have a crop, ascending.
        bad: the images that did not decode, or whose mask did not.
    """

    files: "ray.ObjectRef[ImageFiles]"
    indices: NDArray[np.int64]
    bad: tuple[BadImage, ...]

    def open(self) -> "CropStream":
        """The crops, to be read by this process."""
        return CropStream(self.files)


class CropStream:
    """Crops that Ray Data decodes on the way."""

    def __init__(self, files: "ray.ObjectRef[ImageFiles]") -> None:
        self._files = files
        self._size = ray.get(files).size

    def read(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """The crops of each batch of indices, decoded ahead, in the order asked for.

        Raises:
            UserError: an image does not decode, though it did at first.
        """
        if not batches:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        each = min(BATCHES_PER_TASK, -(-len(batches) // TASKS))
        dataset = ray.data.range(
            len(batches), override_num_blocks=-(-len(batches) // each)
        ).map_batches(
            _decode_batches,
            fn_kwargs={"plan": ray.put(_plan(batches)), "files": self._files},
            batch_size=None,
            batch_format="pyarrow",
        )
        blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        for block in blocks:
            for group in crop_groups(block, self._size):
                masks = None if group.masks is None else group.masks.copy()
                yield CropGroup(group.indices, group.crops.copy(), masks)


def survey_stream(files: ImageFiles) -> StreamingCrops:
    """Look at every image once, so that what does not decode is known before the first epoch."""
    reference = ray.put(files)
    dataset = files.in_groups().map_batches(
        _look_at_groups, fn_kwargs={"files": reference}, batch_size=None, batch_format="pyarrow"
    )
    bad: list[BadImage] = []
    lost: list[int] = []
    with Counter("checking", total=len(files.paths), unit="images") as counter:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            bad.extend(bad_images(table))
            lost.extend(row for indices in table["lost"].to_pylist() for row in indices)
            counter.advance(sum(table["looked_at"].to_pylist()))
    bad.sort(key=lambda image: image.path)
    indices = np.setdiff1d(np.arange(len(files.paths)), np.array(lost, dtype=np.int64))
    return StreamingCrops(reference, indices, tuple(bad))


def _plan(batches: Sequence[Indices]) -> pa.Table:
    """The indices of each batch, as a table whose columns tasks map without a copy."""
    offsets = np.cumsum([0, *map(len, batches)])
    indices = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(batches)))
    return pa.table({"indices": indices})


def _decode_batches(
    numbers: pa.Table, plan: "ray.ObjectRef[pa.Table]", files: "ray.ObjectRef[ImageFiles]"
) -> Iterator[pa.Table]:
    """Decode the images of some batches of the plan, one after the other."""
    batches, known = ray.get(plan)["indices"], ray.get(files)
    for number in numbers["id"].to_pylist():
        indices = batches[number].values.to_numpy()
        decoded = known.decode(indices)
        for image in decoded.bad:
            raise UserError(
                f"{image.path} does not decode any more ({image.reason}): it did before the first "
                "epoch; leave the images alone while training reads them"
            )
        yield pa.Table.from_pylist([pixel_columns(indices, decoded)], schema=BATCH_SCHEMA)


def _look_at_groups(plan: pa.Table, files: "ray.ObjectRef[ImageFiles]") -> pa.Table:
    """Find the images of some groups that do not decode."""
    known: ImageFiles = ray.get(files)
    found = []
    for group in plan["indices"]:
        indices = group.values.to_numpy()
        decoded = known.decode(indices, SURVEY_SIZE)
        lost = np.delete(indices, list(decoded.kept))
        found.append({"looked_at": len(indices), "lost": lost, **bad_columns(decoded)})
    fields = [("looked_at", pa.int64()), ("lost", pa.list_(pa.int64())), *BAD_FIELDS]
    return pa.Table.from_pylist(found, schema=pa.schema(fields))
