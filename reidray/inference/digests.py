"""Tell whether the content of a file, told by its SHA-256, is one of many."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 32


def digest_lookup(digests: NDArray[np.bytes_]) -> Callable[[bytes], bool]:
    """Tells whether a digest is one of some.

    Args:
        digests: (N,) S32, sorted.
    """

    def known(digest: bytes) -> bool:
        place = np.searchsorted(digests, digest)
        # NumPy drops zeros at the end of bytes.
        return bool(place < len(digests) and digests[place] == digest.rstrip(b"\0"))

    return known
