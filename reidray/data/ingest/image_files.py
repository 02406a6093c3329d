"""Hold the images that a training reads."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import DecodeResult, decode_files
from reidray.data.joined_folders import JoinedFolders
from reidray.storage.location import Location

GROUP_LIMIT = 256
"""Images that a group holds at most; a larger group is divided, so that tasks are of even size."""


@dataclass(frozen=True)
class ImageFiles:
    """Hold N images to decode to crops of one size.

    Attributes:
        location: the root of the paths, or the joined folders in which they are read.
        paths: (N,) large strings, relative paths; a crop is found by the index of its path.
        groups: (N,) int64, a number per image. Images of the same number lie together in memory:
            those of a person, of a class, or of another division into groups of 10 to 500 images.
        size: height and width of a crop in pixels.
        masks: (N,) large strings or nulls, the relative paths of the masks. An image whose mask is
            null or does not decode counts as a bad image. None decodes no masks.
    """

    location: Location | JoinedFolders
    paths: pa.LargeStringArray
    groups: NDArray[np.int64]
    size: tuple[int, int]
    masks: pa.LargeStringArray | None = None

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

    def split_into_groups(self) -> pa.LargeListArray:
        """Return the indices of each group, lists of int64; large groups are divided."""
        order = np.argsort(self.groups, kind="stable")
        groups = self.groups[order]
        starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
        sizes = np.diff(starts, append=len(order))
        parts = -(-sizes // GROUP_LIMIT)
        ends = np.cumsum(parts)
        number = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - parts, parts)
        offsets = np.append(np.repeat(starts, parts) + GROUP_LIMIT * number, len(order))
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(order))
