"""The best gallery images of each query, exactly, without the whole distance matrix."""

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.retrieval.distances import Metric, Prepared, full_precision, metric_named
from reidray.retrieval.inputs import Array, as_tensors, check_at_least, comfortable_scale

GROUP = 64
MOST_ROWS = 1024
MOST_COLUMNS = 8192
BYTES_PER_KEY = 96  # a key itself, and the rows, columns and keys where all of a block tie


@overload
def top_k(
    query: NDArray[np.generic],
    gallery: NDArray[np.generic],
    k: int,
    *,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
@overload
def top_k(
    query: Tensor,
    gallery: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[Tensor, Tensor]: ...
def top_k(
    query: Array,
    gallery: Array,
    k: int,
    *,
    metric: str = "euclidean",
    memory_mb: float = 512,
) -> tuple[Array, Array]:
    """The k nearest gallery images of each query, best first.

    Exact: the order is that of float64 distances, and equal ones are ordered by the lower gallery
    index, so the result is the same for every block size, number of threads and machine.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        k: how many; more than G gives all G.
        metric: "euclidean", "cosine" or "l1".
        memory_mb: megabytes to work in, beyond inputs and result.

    Returns:
        Distances (Q, k) float32 and indices into the gallery (Q, k) int64, of the library and on
        the device of the inputs.

    Raises:
        ValueError: an argument is not as said here; the message names it.
    """
    check_at_least("k", k, 1)
    check_at_least("memory_mb", memory_mb, 1)
    how = metric_named(metric)
    queries, images = as_tensors(query, gallery)
    with full_precision(queries.device):
        scale = comfortable_scale(queries, images)
        if scale != 1:
            queries, images = queries.float() * scale, images.float() * scale
        keys, indices = nearest(queries, images, min(k, len(images)), how, memory_mb)
        distances = how.distance(keys)
        distances = (distances if metric == "cosine" else distances / scale).float()
    if isinstance(query, Tensor):
        return distances, indices
    return distances.numpy(), indices.numpy()


def nearest(
    query: Tensor, gallery: Tensor, k: int, metric: Metric, memory_mb: float
) -> tuple[Tensor, Tensor]:
    """Exact keys (Q, k) float64 and gallery indices (Q, k) int64 of the k nearest, k <= G."""
    keys = torch.full((len(query), k), torch.inf, dtype=torch.float64, device=query.device)
    indices = torch.full((len(query), k), -1, dtype=torch.int64, device=query.device)
    rows, columns = block_shape(len(query), len(gallery), query.shape[1], memory_mb)
    buffer = torch.empty(rows * (columns + GROUP), dtype=torch.float32, device=query.device)
    for left in range(0, len(gallery), columns):
        block = gallery[left : left + columns]
        prepared = metric.prepare(block, torch.float32)
        for top in range(0, len(query), rows):
            part = slice(top, top + rows)
            found = _candidates(query[part], block, prepared, keys[part], metric, buffer)
            _merge(keys[part], indices[part], *found, left)
    return keys, indices


def block_shape(queries: int, images: int, values: int, memory_mb: float) -> tuple[int, int]:
    """How many queries and gallery images of `values` numbers each fit the budget together."""
    budget = memory_mb * 2**20 / 2
    columns = int(min(images, MOST_COLUMNS, max(GROUP, budget // (16 * values))))
    rows = int(min(queries, MOST_ROWS, max(1, budget // (BYTES_PER_KEY * columns))))
    return rows, columns


def _candidates(
    query: Tensor, gallery: Tensor, prepared: Prepared, best: Tensor, metric: Metric, buffer: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and exact keys of all pairs that may be among the best, in that order."""
    ready = metric.prepare(query, torch.float32)
    width = -(-len(gallery) // GROUP) * GROUP
    block = buffer[: len(query) * width].view(len(query), width)
    block[:, len(gallery) :] = torch.inf
    margin = metric.approximate(ready, prepared, block[:, : len(gallery)])
    offset = metric.offset(ready)
    rows, columns = _at_most(block, _limit(block[:, : len(gallery)], best, margin, offset))
    if not margin.any():
        return rows, columns, block[rows, columns].double() + offset[rows]
    return rows, columns, metric.exact(query, gallery, rows, columns)


def _limit(block: Tensor, best: Tensor, margin: Tensor, offset: Tensor) -> Tensor:
    """(B,) float32: a pair with a fast key above this is not among the best k."""
    k = best.shape[1]
    worst = best[:, -1] - offset
    nothing_known = k < block.shape[1] and bool(worst.isinf().any())
    if nothing_known:
        worst = block.kthvalue(k, dim=1).values + margin
    limit = (worst + margin).float()
    upwards = torch.full_like(limit, torch.inf)
    # Where fast keys are exact, one that equals the worst of earlier blocks comes too late.
    exact = limit if nothing_known else limit.nextafter(-upwards)
    limit = torch.where(margin == 0, exact, limit.nextafter(upwards))
    return limit.clamp(max=torch.finfo(torch.float32).max)


def _at_most(block: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the keys (B, a multiple of GROUP) up to their row's limit, in order."""
    groups = block.view(len(block), -1, GROUP)
    rows, group = (groups.amin(dim=2) <= limit[:, None]).nonzero(as_tuple=True)
    hit, place = (groups[rows, group] <= limit[rows, None]).nonzero(as_tuple=True)
    return rows[hit], group[hit] * GROUP + place


def _merge(
    keys: Tensor, indices: Tensor, rows: Tensor, columns: Tensor, new_keys: Tensor, left: int
) -> None:
    """Puts candidates, further on in the gallery than all before them, among the best."""
    if len(rows) == 0:
        return
    counts = torch.bincount(rows, minlength=len(keys))
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    shape = len(keys), int(counts.max())
    padded_keys = keys.new_full(shape, torch.inf)
    padded_keys[rows, place] = new_keys
    padded_indices = indices.new_full(shape, -1)
    padded_indices[rows, place] = columns + left
    # A stable sort keeps equal keys in the gallery's order.
    all_keys, order = torch.cat([keys, padded_keys], dim=1).sort(dim=1, stable=True)
    all_indices = torch.cat([indices, padded_indices], dim=1).gather(1, order)
    keys.copy_(all_keys[:, : keys.shape[1]])
    indices.copy_(all_indices[:, : keys.shape[1]])
