"""Time the reading and the decoding of image files, one after the other."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reidray.data.images.decoding import DecodeResult, ImageSource, decode_files
from reidray.data.images.pil_images import MAX_BYTES

Batch = TypeVar("Batch")

TIMED_SECONDS = 4.0
"""Seconds that a process times images for, where that is not less than `LEAST_BATCHES`."""

LEAST_BATCHES = 3

CONCURRENT_READS = 16
"""Files of an object store that a process reads at a time, as `decode_files` does."""


@dataclass(frozen=True)
class FileTiming:
    """Hold the time of some image files.

    Attributes:
        num_images: number of images.
        num_bad: number of them that do not decode.
        num_bytes: bytes of their files.
        read_seconds: seconds of the reading.
        decode_seconds: seconds of the decoding.
    """

    num_images: int
    num_bad: int
    num_bytes: int
    read_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class FilesInMemory:
    """Hold files that are read already, as a folder of `decode_files`.

    Attributes:
        contents: the bytes of each file by its path, or the error of its reading.
    """

    contents: Mapping[str, bytes | OSError]

    @property
    def is_remote(self) -> bool:
        """Return False: nothing waits for a network."""
        return False

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:  # noqa: ARG002
        """Return the contents of a file.

        Raises:
            OSError: the file could not be read.
        """
        content = self.contents[path]
        if isinstance(content, OSError):
            raise content
        return content


def time_files(
    location: ImageSource,
    paths: Sequence[str],
    size: tuple[int, int],
    masks: Sequence[str | None] | None = None,
) -> tuple[FileTiming, DecodeResult]:
    """Read some image files, then decode them, and return the times and the crops.

    Args:
        location: folder that the paths are relative to.
        paths: the images.
        size: height and width of a crop in pixels.
        masks: the path of the mask of each image, where they are decoded too.

    Raises:
        OSError: the disk or the object store failed.
    """
    wanted = [*paths, *filter(None, masks or ())]

    def read(path: str) -> bytes | OSError:
        try:
            return location.read_bytes(path, MAX_BYTES)
        except OSError as error:
            return error  # `decode_files` decides whether the image is bad, or the disk

    start = time.perf_counter()
    if location.is_remote:
        with ThreadPoolExecutor(CONCURRENT_READS) as threads:
            found = list(threads.map(read, wanted))
    else:
        found = list(map(read, wanted))
    middle = time.perf_counter()
    contents = dict(zip(wanted, found, strict=True))
    decoded = decode_files(FilesInMemory(contents), paths, size, masks)
    end = time.perf_counter()
    timing = FileTiming(
        len(paths),
        len(decoded.bad),
        sum(len(data) for data in contents.values() if isinstance(data, bytes)),
        middle - start,
        end - middle,
    )
    return timing, decoded


def until_time_is_up(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches for `TIMED_SECONDS`, and at least `LEAST_BATCHES` if there are as many."""
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        if number >= LEAST_BATCHES and time.perf_counter() - start > TIMED_SECONDS:
            return
        yield batch


def draw_sample(count: int, size: int, seed: int = 0) -> NDArray[np.int64]:
    """Return (min(count, size),) int64 positions in 0..count, drawn without repeats, ascending."""
    if count <= size:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))
