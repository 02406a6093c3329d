"""What the processes of a cluster that decode import: no PyTorch, which takes each seconds."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray

from reidray.inference.image_batches import ImageBatch, decode_batches


def decode_planned(
    plan: Sequence[ImageBatch], size: tuple[int, int], known: list[Any]
) -> Iterator[pa.Table]:
    """Read and decode planned batches, one at a time.

    Args:
        plan: the batches.
        size: height and width of a crop.
        known: in it, where it is not empty, what Ray's store has the sorted digests by, (N,) S32,
            of contents that need not be decoded.
    """
    return decode_batches(plan, size, ray.get(known[0]) if known else None)


def decode_task(plan: Sequence[ImageBatch], size: tuple[int, int], known: list[Any]) -> pa.Table:
    """All that `decode_planned` gives, in one table."""
    return pa.concat_tables(decode_planned(plan, size, known))
