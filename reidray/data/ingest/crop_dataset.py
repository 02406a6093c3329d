"""Define the interface of the decoded images of a training."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reidray.data.images.crops import CropGroup, CropReader, Indices
from reidray.data.images.decoding import BadImage


class CropDataset(Protocol):
    """Refer to the crops of a training, which each of its processes opens."""

    @property
    def decoded(self) -> NDArray[np.bool_]:
        """Mask of the images that have a crop, (N,) bool."""

    @property
    def bad(self) -> tuple[BadImage, ...]:
        """The images that do not decode, or whose masks do not."""

    def open(self) -> CropReader:
        """Return a reader of the crops for this process."""

    def sample(self, batches: Sequence[Indices]) -> Iterator[CropGroup]:
        """Yield the crops of a few batches of indices; no others come to this process.

        Raises:
            KeyError: an index has no crop.
        """
