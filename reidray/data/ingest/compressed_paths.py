"""Hold many paths in compressed blocks, from which some are read by their numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BLOCK_PATHS = 32
"""Number of paths of a block. A larger one saves little memory, and takes longer to read a path."""

BLOCKS_AT_ONCE = 2**11
"""Number of blocks that are compressed together."""

CODEC = pa.Codec("lz4_raw")


@dataclass(frozen=True)
class CompressedPaths:
    """Hold N paths.

    Paths that follow each other in a manifest are alike, so that a block takes a fraction of their
    bytes. Processes that get the paths through an object store map one copy of them.

    Attributes:
        content: (B,) uint8, the blocks, one after the other.
        starts: (blocks + 1,) int64, the place in `content` where each block starts, and B.
        sizes: (blocks,) int32, the bytes of each block without compression.
        count: N.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int32]
    count: int

    @classmethod
    def from_column(cls, column: pa.Array | pa.ChunkedArray) -> Self:
        """Return the paths of a column of strings; a null becomes an empty path.

        >>> paths = CompressedPaths.from_column(pa.array(["a/1.jpg", None, "a/2.jpg"]))
        >>> len(paths), paths.take(np.array([2, 1, 2]))
        (3, ['a/2.jpg', '', 'a/2.jpg'])
        """
        step = BLOCK_PATHS * BLOCKS_AT_ONCE
        parts: list[bytes] = []
        lengths, sizes = [0], list[int]()
        for start in range(0, len(column), step):
            paths = column.slice(start, step).fill_null("").to_pylist()
            texts = [
                "\0".join(paths[first : first + BLOCK_PATHS]).encode()  # no path holds a NUL
                for first in range(0, len(paths), BLOCK_PATHS)
            ]
            blocks = [CODEC.compress(text, asbytes=True) for text in texts]
            parts.append(b"".join(blocks))
            lengths += map(len, blocks)
            sizes += map(len, texts)
        content = np.frombuffer(b"".join(parts), np.uint8)
        return cls(content, np.cumsum(lengths), np.array(sizes, np.int32), len(column))

    def __len__(self) -> int:
        """Return the number of paths."""
        return self.count

    def take(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the paths of some numbers, (M,) int64, in their order."""
        blocks, places = (each.tolist() for each in np.divmod(numbers, BLOCK_PATHS))
        paths = {block: self._read_block(block) for block in set(blocks)}
        return [paths[block][place] for block, place in zip(blocks, places, strict=True)]

    def __iter__(self) -> Iterator[str]:
        """Yield all paths."""
        for block in range(len(self.sizes)):
            yield from self._read_block(block)

    def _read_block(self, block: int) -> list[str]:
        content = self.content[self.starts[block] : self.starts[block + 1]]
        text: bytes = CODEC.decompress(content, int(self.sizes[block]), asbytes=True)
        return text.decode().split("\0")
