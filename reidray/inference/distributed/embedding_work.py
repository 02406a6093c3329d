"""Read, decode and write the images of a run, in tasks whose processes do not import PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from reidray.inference.decode_tasks import ObjectRef
from reidray.inference.distributed.prediction_rows import decoded_rows
from reidray.inference.image_batches import ImageBatch, decode_batches

READ_WORK = Callable[[Any], Iterator[ImageBatch]]
WRITE_ROWS = Callable[[pa.Table], str]


@dataclass(frozen=True)
class EmbeddingWork:
    """Describe the images of a run, how a worker reads their names and where it writes.

    All of it is sent to the workers. The functions are those of a module, with bound arguments.
    What they import, each process that decodes or writes imports.

    Attributes:
        items: pieces of the work, such as ranges of a file of names. The rows of a piece are
            written together; where actors have GPUs, those of some forward passes are.
        read: yields the batches of a piece.
        write: writes rows of images (see `prediction_rows.row_schema`), and returns a receipt, a
            short text. It may be called again with the same rows where a machine is lost.
    """

    items: Sequence[Any]
    read: READ_WORK
    write: WRITE_ROWS


def decode_items(
    table: pa.Table, size: tuple[int, int], known: ObjectRef, work: ObjectRef
) -> Iterator[pa.Table]:
    """Yield the decoded images of some items (see `prediction_rows.decoded_rows`).

    Args:
        table: a row of `item`, the index of the item, for each.
        size: height and width of a crop in pixels.
        known: reference to the keys of digests that need no prediction, or to None.
        work: reference to the `EmbeddingWork`.
    """
    keys, described = ray.get(known), ray.get(work)
    for item in table["item"].to_pylist():
        batches = list(described.read(described.items[item]))
        for decoded in decode_batches(batches, size, keys):
            yield decoded_rows(decoded)


def write_rows(rows: pa.Table, work: ObjectRef) -> pa.Table:
    """Write rows of images with predictions, and return the row of `receipt_row`."""
    return receipt_row(ray.get(work).write(rows))


def receipt_row(receipt: str) -> pa.Table:
    """Return one row with a receipt, with which the pipeline ends."""
    return pa.table({"receipt": [receipt]})
