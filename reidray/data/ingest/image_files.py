"""Hold the images that a training reads."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reidray.data.images.decoding import DecodeResult, decode_files
from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.joined_folders import JoinedFolders
from reidray.data.sampling.person_index import PersonIndex
from reidray.storage.location import Location

GROUP_LIMIT = 256
"""Images that a group holds at most; a larger group is divided, so that tasks are of even size."""


@dataclass(frozen=True)
class ImageFiles:
    """Hold N images to decode to crops of one size.

    Attributes:
        location: the root of the paths, or the joined folders in which they are read.
        paths: N relative paths; a crop is found by the index of its path.
        groups: (N,) int64, a number per image. Images of the same number lie together in memory:
            those of a person, of a class, or of another division into groups of 10 to 500 images.
        size: height and width of a crop in pixels.
        masks: N relative paths of the masks, empty where there is none. An image that has no mask,
            or whose mask does not decode, counts as a bad image. None decodes no masks.
    """

    location: Location | JoinedFolders
    paths: CompressedPaths
    groups: NDArray[np.int64]
    size: tuple[int, int]
    masks: CompressedPaths | None = None

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
        paths = self.paths.take(indices)
        return decode_files(self.location, paths, size or self.size, self.mask_paths(indices))

    def mask_paths(self, indices: NDArray[np.int64]) -> list[str | None] | None:
        """Return the path of the mask of some images, None where one has none; None without masks.

        Args:
            indices: (M,) int64, the indices of the images.
        """
        return None if self.masks is None else [mask or None for mask in self.masks.take(indices)]

    def without_groups(self) -> Self:
        """Return the images for tasks that are given the indices of a group."""
        return replace(self, groups=self.groups[:0])

    def split_into_groups(self) -> pa.LargeListArray:
        """Return the indices of each group, lists of integers; large groups are divided."""
        index = PersonIndex.from_person_ids(self.groups)
        parts = -(-index.counts // GROUP_LIMIT)
        ends = np.cumsum(parts, dtype=np.int64)
        number = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - parts, parts)
        offsets = np.repeat(index.starts, parts) + GROUP_LIMIT * number
        ends_of_all = pa.array(np.append(offsets, len(index.order)).astype(np.int64))
        return pa.LargeListArray.from_arrays(ends_of_all, pa.array(index.order))
