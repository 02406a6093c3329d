"""What the processes of a cluster that decode import: no PyTorch, which takes each seconds."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray

from reidray.scoring.image_batches import decode_batches


def decode_task(
    plan: pa.Table, size: tuple[int, int], known: "ray.ObjectRef[Any] | None"
) -> Iterator[pa.Table]:
    """Decode planned batches as `decode_batches`, one at a time; `known` lies in Ray's store."""
    return decode_batches(plan, size, None if known is None else ray.get(known))
