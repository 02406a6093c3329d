"""Find the pairs of images in a batch, and average over those that count.

No shape depends on a value, so that the host does not wait for a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Pairs:
    """Hold the pairs of the images of a batch.

    Attributes:
        positive: (B, B) bool, two different images of one person.
        negative: (B, B) bool, images of two people.
    """

    positive: Tensor
    negative: Tensor


def find_pairs(person_ids: Tensor) -> Pairs:
    """Return the pairs of images whose people are `person_ids`, (B,) int64."""
    same = person_ids[:, None] == person_ids[None, :]
    itself = torch.eye(len(person_ids), dtype=torch.bool, device=person_ids.device)
    return Pairs(positive=same & ~itself, negative=~same)


def cosine_similarities(features: Tensor) -> Tensor:
    """Return the cosines of all pairs of features, (B, D) to (B, B) float32."""
    directions = functional.normalize(features.float())
    return directions @ directions.T


def log_sum_exp_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials over the counted values of each row.

    A row without one gets a large negative number, with a gradient of 0.

    Args:
        values: (B, N) float32.
        counted: (B, N) bool.

    Returns:
        (B,) float32.
    """
    nothing = torch.finfo(values.dtype).min / 4  # the sum of two such rows is finite
    return values.masked_fill(~counted, nothing).logsumexp(dim=1)


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values where `counted`, a bool of the same shape; 0 without any."""
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
