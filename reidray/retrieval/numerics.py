"""Sums of many products: fast ones with a small error, and exact ones in one fixed order."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

PIECE = 128
LENGTH_PIECE = 32
SPLIT_FROM = 1024
COLUMNS = 1024  # few enough for a processor's cache to hold what is being summed


def tree_sum(values: Tensor) -> Tensor:
    """The sum of each row of (N, D), folded in halves; overwrites `values`.

    Element-wise additions alone fix the order of summation, on every device and for any number
    of rows and threads.
    """
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0].clone()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Makes a float32 product one of float32 numbers, whatever the caller's training has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def single_thread() -> Iterator[None]:
    """For many small steps, whose threads would mostly wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def product(query: Tensor, gallery: Tensor, out: Tensor) -> None:
    """Writes q.g of all pairs; long vectors in pieces, as a sum of fewer terms has less error."""
    length = _piece(query.shape[1])
    for left in range(0, len(gallery), COLUMNS):
        images, block = gallery[left : left + COLUMNS], out[:, left : left + COLUMNS]
        torch.mm(query[:, :length], images[:, :length].T, out=block)
        for start in range(length, query.shape[1], length):
            piece = slice(start, start + length)
            block.addmm_(query[:, piece], images[:, piece].T)


def longest_sum(values: int) -> int:
    """How many roundings any term of `product` goes through, for vectors of so many values."""
    return _piece(values) + values // _piece(values)


def _piece(values: int) -> int:
    """How many of a vector's values are summed in one go; to split a short one costs time."""
    return PIECE if values >= SPLIT_FROM else values


def squared_lengths(vectors: Tensor) -> Tensor:
    """(N,) float64, rounded to the vectors' own dtype within short pieces only."""
    pieces = vectors.shape[1] // LENGTH_PIECE
    rest = vectors[:, pieces * LENGTH_PIECE :]
    whole = vectors[:, : pieces * LENGTH_PIECE].view(len(vectors), pieces, LENGTH_PIECE)
    return _norm(whole).double().square().sum(dim=1) + _norm(rest).double().square()


def _norm(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths
