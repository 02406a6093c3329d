"""Find the nearest and the farthest images within a small set exactly.

A float64 product leaves few pairs open. `DistanceMetric.exact` decides these, so that the result
does not depend on the product.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.retrieval.distances import DistanceMetric
from reidray.retrieval.search_algorithms.candidates import best_positions

BYTES_PER_KEY = 24
"""A float64 key, its copy while the smallest are chosen, and flags."""


@dataclass(frozen=True)
class SetNeighbours:
    """Hold what is nearest to and farthest from each of S images within their set.

    Attributes:
        nearest: (S, k) int64, the nearest images, the image itself included; the lower index first
            where keys are equal.
        far_rows: (P,) int64, images of the set.
        far_columns: (P,) int64, an image that may be the farthest from each; the exact keys decide
            where there are several.
    """

    nearest: Tensor
    far_rows: Tensor
    far_columns: Tensor


def find_set_neighbours(
    features: Tensor, k: int, metric: DistanceMetric, budget: int
) -> SetNeighbours:
    """Find the neighbours of all images of a set.

    Args:
        features: (S, D) float32.
        k: Number of nearest images, at most S.
        metric: Distance between features.
        budget: Working memory in bytes, beyond the features in float64.
    """
    ready = metric.prepare(features, torch.float64)
    step = max(1, min(len(features), budget // (BYTES_PER_KEY * len(features))))
    buffer = torch.empty(step, len(features), dtype=torch.float64)
    parts = []
    for top in range(0, len(features), step):
        rows = slice(top, min(top + step, len(features)))
        block = ready if step == len(features) else metric.prepare(features[rows], torch.float64)
        keys = buffer[: rows.stop - top]
        margin = metric.approximate(block, ready, keys)
        nearest = _nearest(features, rows, keys, margin, k, metric)
        largest = keys.amax(dim=1, keepdim=True) - 2 * margin[:, None]
        far_rows, far_columns = (keys >= largest).nonzero(as_tuple=True)
        parts.append((nearest, far_rows + top, far_columns))
    return SetNeighbours(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _nearest(
    features: Tensor, rows: slice, keys: Tensor, margin: Tensor, k: int, metric: DistanceMetric
) -> Tensor:
    """Return the k nearest images (R, k) of some rows of a set by their fast keys (R, S)."""
    smallest, columns = keys.topk(min(k + 1, keys.shape[1]), dim=1, largest=False)
    open_rows = (smallest.diff(dim=1) <= 2 * margin[:, None]).any(dim=1).nonzero()[:, 0]
    nearest = columns[:, :k].contiguous()
    if len(open_rows):
        # A fast key beyond this limit is not that of one of the k nearest.
        limit = smallest[open_rows, k - 1] + 2 * margin[open_rows]
        row, column = (keys[open_rows] <= limit[:, None]).nonzero(as_tuple=True)
        exact = keys.new_full((len(open_rows), keys.shape[1]), torch.inf)
        exact[row, column] = metric.exact(features, features, open_rows[row] + rows.start, column)
        index = torch.arange(keys.shape[1]).expand_as(exact)
        nearest[open_rows] = best_positions(exact, index, k)
    return nearest
