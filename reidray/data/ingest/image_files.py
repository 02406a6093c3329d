"""Hold the images that a training reads, and run decoding tasks over them in the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from reidray.cluster_resources import cluster_cpus
from reidray.data.images.decoding import BadImage, DecodeResult, decode_files
from reidray.progress import Counter
from reidray.storage.location import Location

GROUP_LIMIT = 256
"""Images that a group holds at most; a larger group is divided, so that tasks are of even size."""

TASKS_PER_CPU = 8


@dataclass(frozen=True)
class ImageFiles:
    """Hold N images that are to be decoded to crops of one size.

    Attributes:
        location: the root of the paths.
        paths: (N,) strings, relative paths; a crop is found by the index of its path.
        groups: (N,) int64, a number per image. Images of the same number lie together in memory:
            those of a person, of a class, or of any division into some ten to some hundred images.
        size: height and width of a crop in pixels.
        masks: (N,) strings or nulls, the relative paths of the masks. An image whose mask is null
            or does not decode counts as a bad image. None decodes no masks.
    """

    location: Location
    paths: pa.StringArray
    groups: NDArray[np.int64]
    size: tuple[int, int]
    masks: pa.StringArray | None = None

    @property
    def decoded_bytes(self) -> int:
        """Return the number of bytes of all crops, with their masks."""
        channels = 3 if self.masks is None else 4
        return len(self.paths) * self.size[0] * self.size[1] * channels

    def decode(
        self, indices: NDArray[np.int64], size: tuple[int, int] | None = None
    ) -> DecodeResult:
        """Decode some of the images.

        Args:
            indices: (M,) int64, the indices of their paths.
            size: height and width in pixels; None for the size of the crops.
        """
        chosen = pa.array(indices)
        paths = self.paths.take(chosen).to_pylist()
        masks = None if self.masks is None else self.masks.take(chosen).to_pylist()
        return decode_files(self.location, paths, size or self.size, masks)

    def split_into_tasks(self) -> list[list[NDArray[np.int64]]]:
        """Return the indices of each group, divided among a few tasks per CPU of the cluster."""
        groups = self._split_into_groups()
        count = min(len(groups), max(1, cluster_cpus()) * TASKS_PER_CPU)
        bounds = np.linspace(0, len(groups), count + 1).astype(int).tolist()
        return [groups[start:end] for start, end in pairwise(bounds)]

    def _split_into_groups(self) -> list[NDArray[np.int64]]:
        """Return the indices of each group; large groups are divided."""
        order = np.argsort(self.groups, kind="stable")
        _, starts = np.unique(self.groups[order], return_index=True)
        return [
            indices[start : start + GROUP_LIMIT]
            for indices in np.split(order, starts[1:])
            for start in range(0, len(indices), GROUP_LIMIT)
        ]


@dataclass(frozen=True)
class DecodeOutcome:
    """Hold which images decode, as a decoding task reports it to the driver.

    Attributes:
        indices: (M,) int64, the indices of the images that decode.
        bad: the other images.
    """

    indices: NDArray[np.int64]
    bad: tuple[BadImage, ...]


def wait_for_tasks(
    outcomes: Sequence["ray.ObjectRef[DecodeOutcome]"], verb: str, total: int
) -> DecodeOutcome:
    """Wait for decoding tasks, show their progress, and return their outcomes as one.

    If a task fails, cancel the others.

    Args:
        outcomes: references to the outcomes of the tasks.
        verb: the activity for the progress line, such as `decoding`.
        total: the number of images.

    Returns:
        The ascending indices of the images that decode, and the bad images sorted by path.

    Raises:
        OSError: the disk or the object store failed.
    """
    done: list[DecodeOutcome] = []
    pending: list[Any] = list(outcomes)
    try:
        with Counter(verb, total=total, unit="images") as counter:
            while pending:
                finished, pending = ray.wait(pending)
                for outcome in ray.get(finished):
                    done.append(outcome)
                    counter.advance(len(outcome.indices) + len(outcome.bad))
    finally:
        for reference in pending:
            ray.cancel(reference)
    indices = np.concatenate([np.zeros(0, np.int64), *(outcome.indices for outcome in done)])
    bad = (image for outcome in done for image in outcome.bad)
    return DecodeOutcome(np.sort(indices), tuple(sorted(bad, key=lambda image: image.path)))
