"""Sum products: quickly with a bounded error, or exactly in one fixed order."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from torch import Tensor

CHUNK = 128
"""Values of a long vector that `dot_products` sums in one step."""
NORM_CHUNK = 32
"""Values of a vector that `squared_norms` sums in its own dtype."""
MIN_LENGTH_TO_SPLIT = 1024
"""Vectors from this length on are summed in chunks; splitting shorter ones costs time."""
COLUMNS = 1024
"""Columns of a matrix product that a processor's cache holds while they are summed."""


def tree_sum(values: Tensor) -> Tensor:
    """Return the sum of each row of (N, D), and overwrite `values`.

    The second half of each row is added to the first until one column is left. Element-wise
    additions have the same order on every device and for any number of rows and threads.
    """
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0].clone()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 products in full float32, regardless of the precision that the caller set."""
    with matmul_precision("highest"), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def matmul_precision(precision: Literal["highest", "high"]) -> Iterator[None]:
    """Set `torch.set_float32_matmul_precision`, and restore what the caller set in either way.

    Where the caller set `fp32_precision` of a backend, PyTorch refuses to read the older setting.
    """
    all_backends: Any = torch.backends
    backends = all_backends.cuda.matmul, all_backends.mkldnn.matmul
    of_backends = [backend.fp32_precision for backend in backends]
    before = None
    with suppress(RuntimeError):
        before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        if before is not None:
            torch.set_float32_matmul_precision(before)
        for backend, found in zip(backends, of_backends, strict=True):
            backend.fp32_precision = "none"  # that of all backends
            if backend.fp32_precision != found:
                backend.fp32_precision = found


@contextmanager
def single_thread() -> Iterator[None]:
    """Use one thread: in many small steps, several would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def dot_products(query: Tensor, gallery: Tensor, out: Tensor) -> None:
    """Write the dot products of all pairs of (Q, D) and (G, D) to `out` (Q, G).

    Long vectors are summed in chunks, because a sum of fewer terms has a smaller error.
    """
    length = _chunk(query.shape[1])
    # Only sums of several chunks on a CPU gain from a cache.
    columns = COLUMNS if query.is_cpu and length < query.shape[1] else len(gallery)
    for left in range(0, len(gallery), columns):
        images, block = gallery[left : left + columns], out[:, left : left + columns]
        torch.mm(query[:, :length], images[:, :length].T, out=block)
        for start in range(length, query.shape[1], length):
            chunk = slice(start, start + length)
            block.addmm_(query[:, chunk], images[:, chunk].T)


def max_roundings(values: int) -> int:
    """Return the number of roundings of a term in `dot_products`, for vectors of this length."""
    return _chunk(values) + values // _chunk(values)


def _chunk(values: int) -> int:
    """Return the number of values of a vector that are summed in one step."""
    return CHUNK if values >= MIN_LENGTH_TO_SPLIT else values


def squared_norms(vectors: Tensor) -> Tensor:
    """Return the squared lengths (N,) float64 of vectors (N, D).

    Only sums within short chunks are rounded to the dtype of the vectors.
    """
    chunks = vectors.shape[1] // NORM_CHUNK
    rest = vectors[:, chunks * NORM_CHUNK :]
    whole = vectors[:, : chunks * NORM_CHUNK].view(len(vectors), chunks, NORM_CHUNK)
    return _norm(whole).double().square().sum(dim=1) + _norm(rest).double().square()


def _norm(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths
