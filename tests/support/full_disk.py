"""Let files stay small, as on a disk that is full, which needs no mount and no root."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

MAX_BYTES = 1000
"""Bytes that a file then has at most."""


@contextmanager
def full_disk() -> Iterator[None]:
    """Let every larger file of this process fail while the block runs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
