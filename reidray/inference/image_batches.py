"""Hold sets of images, and batches of them from file names to predictions.

The same image gives the same predictions, bit by bit, in any batch: every forward
pass of a network runs over exactly `BATCH_SIZE` crops.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reidray.data.images.decoding import BadImage, check_bad_images, decode_files
from reidray.inference.predictions import NO_TIME, LoopTiming, Predictions
from reidray.storage.location import Location
from reidray.storage.retries import retry_count

BATCH_SIZE = 64

DIGEST_BYTES = 32
"""Length of a SHA-256 digest."""

DIGEST_KEY_BYTES = 16
"""Length of the beginning of a digest by which it is looked up. Of a billion files, two different
ones have the same beginning with a probability of 1e-21."""

Digests = NDArray[np.bytes_]
"""(N,) S16, the sorted keys of SHA-256 digests of image files."""


@dataclass(frozen=True)
class ImageSet:
    """Hold the paths of the images of one role.

    Attributes:
        name: the role, such as `query` or `gallery`.
        location: the folder that the paths are relative to.
        paths: N relative paths.
        skipped_files: number of files in the folder that are no images, by suffix.
    """

    name: str
    location: Location
    paths: tuple[str, ...]
    skipped_files: Mapping[str, int] = field(default_factory=dict)

    def check_bad_images(self, bad: Sequence[BadImage], max_bad: float) -> None:
        """Check that few enough images failed to decode.

        Args:
            bad: the images that failed, with paths relative to the location.
            max_bad: the share of the images that may fail, 0 to 1.

        Raises:
            UserError: a larger share failed; the message names the first images in full.
        """
        located = [
            BadImage(posixpath.join(self.location.uri, image.path), image.reason) for image in bad
        ]
        check_bad_images(located, len(self.paths), max_bad)


@dataclass(frozen=True)
class ImageBatch:
    """Hold the names of B images of one set that are read together.

    Attributes:
        set_name: name of the image set.
        location: the folder that the paths are relative to.
        indices: B indices into the paths of the set.
        paths: B relative paths.
        stamps: B stamps of the files, or nothing where no store keeps them.
    """

    set_name: str
    location: Location
    indices: tuple[int, ...]
    paths: tuple[str, ...]
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DecodedBatch:
    """Hold the crops of the images of a batch.

    Attributes:
        batch: the B images.
        digests: B SHA-256 digests of the files; empty where a file cannot be read.
        positions: (M,) int64, positions in the batch of the images that became crops.
        crops: (M, H, W, 3) uint8 RGB.
        bad: the reason for each image that does not decode, by its position in the batch.
        num_retries: requests to an object store that were sent again.
    """

    batch: ImageBatch
    digests: tuple[bytes, ...]
    positions: NDArray[np.int64]
    crops: NDArray[np.uint8]
    bad: Mapping[int, str]
    num_retries: int

    def with_predictions(self, predictions: Predictions, timing: LoopTiming) -> "BatchPredictions":
        """Return the batch with predictions in place of its M crops."""
        return BatchPredictions(
            self.batch,
            self.digests,
            self.positions,
            predictions,
            self.bad,
            self.num_retries,
            timing,
        )


@dataclass(frozen=True, eq=False)
class BatchPredictions:
    """Hold the predictions for the images of a batch.

    Attributes:
        batch: the B images.
        digests: B SHA-256 digests of the files; empty where a file cannot be read.
        positions: (M,) int64, positions in the batch of the images with predictions.
        predictions: predictions for these M images.
        bad: the reason for each image that does not decode, by its position in the batch.
        num_retries: requests to an object store that were sent again.
        timing: time of the forward pass; where it ran over several batches, the first has it all.
    """

    batch: ImageBatch
    digests: tuple[bytes, ...]
    positions: NDArray[np.int64]
    predictions: Predictions
    bad: Mapping[int, str]
    num_retries: int
    timing: LoopTiming = NO_TIME


def plan_batches(images: ImageSet, indices: NDArray[np.int64]) -> list[ImageBatch]:
    """Return batches of at most `BATCH_SIZE` images.

    Args:
        images: the image set.
        indices: (M,) int64, the images of the set to read.
    """
    batches = []
    for start in range(0, len(indices), BATCH_SIZE):
        chosen = tuple(indices[start : start + BATCH_SIZE].tolist())
        paths = tuple(images.paths[index] for index in chosen)
        batches.append(ImageBatch(images.name, images.location, chosen, paths))
    return batches


def decode_batches(
    batches: Sequence[ImageBatch], size: tuple[int, int], known: Digests | None
) -> Iterator[DecodedBatch]:
    """Read and decode batches, one at a time.

    Args:
        batches: the images.
        size: height and width of a crop in pixels.
        known: digests of files that need no crop, under any name.
    """
    for batch in batches:
        retries = retry_count()
        decoded = decode_files(
            batch.location,
            batch.paths,
            size,
            known=None if known is None else lambda digest: contains_digest(known, digest),
        )
        position = {path: number for number, path in enumerate(batch.paths)}
        yield DecodedBatch(
            batch,
            decoded.contents,
            np.array(decoded.kept, dtype=np.int64),
            decoded.crops,
            {position[image.path]: image.reason for image in decoded.bad},
            retry_count() - retries,
        )


def contains_digest(digests: Digests, digest: bytes) -> bool:
    """Return whether the sorted keys of digests contain that of a digest."""
    key = digest[:DIGEST_KEY_BYTES]
    place = np.searchsorted(digests, key)
    # NumPy drops zeros at the end of bytes.
    return bool(place < len(digests) and digests[place] == key.rstrip(b"\0"))


def describe_images(batches: Sequence[ImageBatch]) -> str:
    """Return the number of images of some batches, and the first and the last of them."""
    first, last = batches[0], batches[-1]
    return (
        f"{sum(len(batch.paths) for batch in batches)} images, "
        f"{posixpath.join(first.location.uri, first.paths[0])} to "
        f"{posixpath.join(last.location.uri, last.paths[-1])}"
    )
