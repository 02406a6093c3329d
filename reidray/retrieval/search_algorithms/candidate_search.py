"""Find the k nearest images on a GPU, where the host reads nothing until the end.

Blocks are wide, so that a few large kernels do the work. Each adds its k best images, and some
more, to the candidates of each query. Only at the end the host asks which queries have more images
too close to call than there are candidates; these are searched again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.retrieval.distances import DistanceMetric
from reidray.retrieval.search_algorithms.block_search import search_blocks
from reidray.retrieval.search_algorithms.candidates import (
    EXTRA_CANDIDATES,
    best_positions,
    largest_possible,
)

MAX_ROWS = 4096
MAX_COLUMNS = 1 << 17


@dataclass(frozen=True)
class Candidates:
    """Hold the images with the smallest fast keys for each of Q queries.

    Attributes:
        keys: (Q, N) float32 fast keys, smallest first.
        indices: (Q, N) int64 indices of the images.
        margins: (Q,) float64, largest possible error of a fast key of any image.
    """

    keys: Tensor
    indices: Tensor
    margins: Tensor


def search_candidates(
    query: Tensor,
    gallery: Tensor,
    k: int,
    metric: DistanceMetric,
    memory_mb: float,
    farthest: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the keys and indices of the k nearest gallery images (see `exact_search.nearest`)."""
    found = find_candidates(query, gallery, k + EXTRA_CANDIDATES, metric, memory_mb, farthest)
    keys, indices = rank_candidates(query, gallery, k, metric, found)
    if found.keys.shape[1] < len(gallery):
        again = is_undecided(found, k).nonzero()[:, 0]  # the one read
        if len(again):
            keys[again], indices[again] = search_blocks(query[again], gallery, k, metric, memory_mb)
    return keys, indices


def find_candidates(
    query: Tensor,
    gallery: Tensor,
    count: int,
    metric: DistanceMetric,
    memory_mb: float,
    farthest: Tensor | None = None,
) -> Candidates:
    """Return the images with the `count` smallest fast keys, all G where it exceeds G.

    Raises `farthest` as `exact_search.nearest` does.
    """
    count = min(count, len(gallery))
    budget = int(memory_mb * 2**20 / 2)
    rows = min(len(query), MAX_ROWS)
    columns = min(len(gallery), MAX_COLUMNS, budget // (4 * max(rows, query.shape[1])))
    columns = max(1, columns)
    parts = [slice(top, top + rows) for top in range(0, len(query), rows)]
    ready = [metric.prepare(query[part], torch.float32) for part in parts]
    buffer = torch.empty(rows * columns, device=query.device)
    keys = torch.full((len(query), count), torch.inf, device=query.device)
    indices = torch.full_like(keys, -1, dtype=torch.int64)
    margins = torch.zeros(len(query), dtype=torch.float64, device=query.device)
    for left in range(0, len(gallery), columns):
        prepared = metric.prepare(gallery[left : left + columns], torch.float32)
        images = len(prepared.vectors)
        for part, queries in zip(parts, ready, strict=True):
            block = buffer[: len(queries.vectors) * images].view(-1, images)
            margin = metric.approximate(queries, prepared, block)
            margins[part] = torch.maximum(margins[part], margin)
            if farthest is not None:
                farthest[part] = torch.maximum(farthest[part], block.amax(dim=1))
            smallest, column = _smallest(block, min(count, images))
            known = torch.cat([indices[part], column + left], dim=1)
            keys[part], position = _smallest(torch.cat([keys[part], smallest], dim=1), count)
            indices[part] = known.gather(1, position)
    keys, order = keys.sort(dim=1)
    return Candidates(keys, indices.gather(1, order), margins)


def rank_candidates(
    query: Tensor, gallery: Tensor, k: int, metric: DistanceMetric, found: Candidates
) -> tuple[Tensor, Tensor]:
    """Return the exact keys (Q, k) float64, smallest first, and the indices of the k best."""
    rows = torch.arange(len(query), device=query.device)[:, None].expand_as(found.indices)
    pairs = rows.reshape(-1), found.indices.reshape(-1)
    exact = metric.exact(query, gallery, *pairs).view_as(found.keys)
    position = best_positions(exact, found.indices, k)
    return exact.gather(1, position), found.indices.gather(1, position)


def is_undecided(found: Candidates, k: int) -> Tensor:
    """Return for which queries (Q,) an image that is no candidate may be among the best k."""
    return found.keys[:, -1] <= largest_possible(found.keys[:, k - 1], found.margins)


def _smallest(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest keys (Q, count) of each row and their columns, in any order."""
    values, columns = keys.topk(count, dim=1, largest=False, sorted=False)
    return values, columns
