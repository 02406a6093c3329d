"""Decide between candidates for the k nearest images."""

import torch
from torch import Tensor

EXTRA_CANDIDATES = 16
"""Images beyond k that are kept by their fast keys until exact keys decide."""


def largest_possible(kth: Tensor, margins: Tensor) -> Tensor:
    """Return the largest fast key (Q,) float32 of an image that may be among the best k.

    Args:
        kth: (Q,) float32, the k-th smallest fast keys, or more.
        margins: (Q,) float64, largest possible errors of fast keys.
    """
    rounded = (kth.double() + 2 * margins).float()
    return rounded.nextafter(torch.full_like(rounded, torch.inf))


def best_positions(exact: Tensor, indices: Tensor, k: int) -> Tensor:
    """Return the positions (Q, k) of the smallest keys; the lower index wins a tie.

    Args:
        exact: (Q, N) float64 keys.
        indices: (Q, N) int64, the gallery index of each.
        k: Number of keys, at most N.
    """
    by_index = indices.argsort(dim=1)
    order = exact.gather(1, by_index).argsort(dim=1, stable=True)
    return by_index.gather(1, order[:, :k])
