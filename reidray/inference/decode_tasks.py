"""Decode batches in Ray tasks.

Only this module is imported by the processes that decode, and it imports no PyTorch, which would
take each process seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from reidray.inference.image_batches import DecodedBatch, ImageBatch, decode_batches

ObjectRef = Any
"""A reference to an object in Ray's object store (`ray.ObjectRef`)."""


@dataclass(frozen=True)
class SharedInputs:
    """Hold references to what all tasks and actors of a run read.

    Ray fetches only the references that are arguments themselves before a task begins. It does not
    fetch those within this object, so that a task fetches what it needs when it needs it.

    Attributes:
        weights: the state dict of the network.
        known: digests of files that need no crop; None where there are none.
    """

    weights: ObjectRef
    known: ObjectRef | None


def decode_planned(
    batches: Sequence[ImageBatch], size: tuple[int, int], shared: SharedInputs
) -> Iterator[DecodedBatch]:
    """Read and decode batches, one at a time.

    Args:
        batches: the images.
        size: height and width of a crop in pixels.
        shared: the inputs of the run.
    """
    known = None if shared.known is None else ray.get(shared.known)
    return decode_batches(batches, size, known)


def decode_block(
    batches: Sequence[ImageBatch], size: tuple[int, int], shared: SharedInputs
) -> list[DecodedBatch]:
    """Return the decoded batches of a block (see `decode_planned`)."""
    return list(decode_planned(batches, size, shared))
