"""Compute distances between features: quickly with a bounded error, and exactly.

A matrix product in float32 is fast, but its last bits depend on the shape of the block, on the
machine and on the number of threads. Such a product therefore only narrows the choice, with a bound
on its error: a sum of n products, in any order, is off by at most n u / (1 - n u) times the sum of
their magnitudes, u being the unit roundoff (Higham 2002, section 3.1). `DistanceMetric.exact`
decides between the images within the bound: in float64, with one fixed order of summation per pair,
so that every machine computes the same bits.

Both compute *keys*. A key is a number that orders the gallery images of a query as their distances
do, and is cheaper to compute: the squared distance, for example.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.retrieval.array_inputs import check_choice
from reidray.retrieval.numerics import (
    dot_products,
    max_roundings,
    single_thread,
    squared_norms,
    tree_sum,
)

VALUES_AT_ONCE = 1 << 18
"""Values of the pairs that `DistanceMetric.exact` computes together in the cache of a CPU."""
VALUES_AT_ONCE_ON_DEVICE = 1 << 23
"""The same on another device, where large kernels hide the time to start them."""
EXTRA_ROUNDINGS = 64
"""Roundings outside of the long sum: a few for each step, and those of two norms for the cosine."""
UNDERFLOW = 2.0**-120
"""Bound of the error of a value that float32 rounds to zero."""
SMALL_NORM = 2.0**-100
"""Vectors below this length are enlarged before they are brought to length 1."""
MAX_INTEGER = 2.0**48
"""Integers below this magnitude are summed without an error in float64."""


@dataclass(frozen=True)
class FeatureBlock:
    """Hold a block of features that `DistanceMetric.approximate` can use.

    Attributes:
        vectors: (N, D) float32 or float64.
        sizes: (N,) float64; squared lengths (euclidean), sums of magnitudes (L1), 1 (cosine).
        integral: () bool, whether every value is a whole number; on the device of the vectors,
            where the host need not read it.
    """

    vectors: Tensor
    sizes: Tensor
    integral: Tensor


class DistanceMetric(ABC):
    """Compute a distance between feature vectors; smaller means more similar.

    Args:
        scale: Power of two to multiply features by, so that float32 holds their squares.
    """

    degree: int
    """Features twice as large have keys 2 ** degree times as large."""

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale

    @abstractmethod
    def prepare(self, features: Tensor, dtype: torch.dtype) -> FeatureBlock:
        """Cast a block of features (N, D) and measure its vectors."""

    @abstractmethod
    def approximate(self, query: FeatureBlock, gallery: FeatureBlock, out: Tensor) -> Tensor:
        """Write fast keys, less the `offset` of each query, to `out`.

        Args:
            query: Block of Q vectors.
            gallery: Block of G vectors.
            out: (Q, G) of the dtype of the vectors.

        Returns:
            (Q,) float64, the largest possible error of these keys; 0 where they are exact.
        """

    @abstractmethod
    def offset(self, query: Tensor) -> Tensor:
        """Return the part of the keys (Q,) float64 of features (Q, D) that `approximate` omits."""

    @abstractmethod
    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return the keys (N,) of N pairs of float64 vectors (N, D), and overwrite the vectors."""

    def unscaled(self, keys: Tensor) -> Tensor:
        """Return exact keys without the scale, so that keys of two scales compare."""
        return keys / self._scale**self.degree

    def scaled(self, keys: Tensor) -> Tensor:
        """Return what `unscaled` turns into keys."""
        return keys * self._scale**self.degree

    def distance(self, keys: Tensor) -> Tensor:
        """Return the distances that exact keys stand for."""
        return self.unscaled(keys)

    def _cast(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        vectors = features.to(dtype)
        return vectors if self._scale == 1 else vectors * self._scale

    def _integral(self, vectors: Tensor) -> Tensor:
        # Scaling may have turned small values into zeros. On a CPU the first vector decides in most
        # cases; on a GPU a look at it would wait for all work before.
        if self._scale != 1 or (vectors.is_cpu and not torch.equal(vectors[0], vectors[0].round())):
            return _false(vectors.device)
        return (vectors == vectors.round()).all()

    def exact(self, query: Tensor, gallery: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the keys of the pairs `(rows[i], columns[i])`, the same bits in any block.

        Args:
            query: (Q, D) of any floating dtype; values count as float32.
            gallery: (G, D), as `query`.
            rows: (N,) int64 indices into query.
            columns: (N,) int64 indices into gallery.

        Returns:
            (N,) float64.
        """
        keys = torch.empty(len(rows), dtype=torch.float64, device=query.device)
        at_once = VALUES_AT_ONCE if query.is_cpu else VALUES_AT_ONCE_ON_DEVICE
        step = max(1, min(len(rows), at_once // query.shape[1]))
        # Buffers are reused: allocating them for each step costs more than the arithmetic.
        chosen = [side.new_empty(step, side.shape[1]) for side in (query, gallery)]
        vectors = torch.empty(2, *chosen[0].shape, dtype=torch.float64, device=query.device)
        with single_thread():
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                pairs = len(rows[part])
                torch.index_select(query, 0, rows[part], out=chosen[0][:pairs])
                torch.index_select(gallery, 0, columns[part], out=chosen[1][:pairs])
                for side, values in zip(vectors, chosen, strict=True):
                    side[:pairs] = values[:pairs]
                if self._scale != 1:
                    vectors *= self._scale
                keys[part] = self._exact_pairs(*vectors[:, :pairs])
        return keys


class Euclidean(DistanceMetric):
    """Compute |q - g|, the straight-line distance; its keys are squared distances."""

    degree = 2

    def prepare(self, features: Tensor, dtype: torch.dtype) -> FeatureBlock:
        """Cast and measure vectors (see `DistanceMetric.prepare`)."""
        vectors = self._cast(features, dtype)
        integral = self._integral(vectors)
        if vectors.is_cpu and not integral:
            return FeatureBlock(vectors, squared_norms(vectors), integral)
        whole = vectors.square().sum(dim=1).double()
        sizes = whole if vectors.is_cpu else torch.where(integral, whole, squared_norms(vectors))
        return FeatureBlock(vectors, sizes, integral)

    def approximate(self, query: FeatureBlock, gallery: FeatureBlock, out: Tensor) -> Tensor:
        """Write |g|^2 - 2 q.g (see `DistanceMetric.approximate`)."""
        dot_products(-2 * query.vectors, gallery.vectors, out)
        out += gallery.sizes.to(out.dtype)
        # The magnitude of the product is 2 |q| |g|, which is at most |q|^2 + |g|^2.
        largest = gallery.sizes.max()
        return _margin(
            query,
            gallery,
            max_roundings(query.vectors.shape[1]),
            query.sizes + largest,
            query.sizes + 2 * largest,
        )

    def offset(self, query: Tensor) -> Tensor:
        """Return |q|^2 (see `DistanceMetric.offset`)."""
        return tree_sum(self._cast(query, torch.float64).square())

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).square_())

    def distance(self, keys: Tensor) -> Tensor:
        """Return the square root of unscaled keys."""
        return self.unscaled(keys).sqrt()


class Cosine(DistanceMetric):
    """Compute 1 - q.g / (|q| |g|); a vector of zeros has distance 1 from every other."""

    degree = 0

    def prepare(self, features: Tensor, dtype: torch.dtype) -> FeatureBlock:
        """Bring vectors to length 1 (see `DistanceMetric.prepare`)."""
        vectors = self._cast(features, dtype)
        norms = squared_norms(vectors).sqrt()
        small = norms < SMALL_NORM
        if (
            not small.is_cpu or small.any()
        ):  # float32 holds such a length with few digits, or as zero
            vectors = torch.where(small[:, None], vectors / SMALL_NORM, vectors)
            norms = torch.where(small, norms / SMALL_NORM, norms)
            norms = torch.where(norms == 0, 1, norms)
        return FeatureBlock(
            vectors / norms.to(dtype)[:, None], torch.ones_like(norms), _false(norms.device)
        )

    def approximate(self, query: FeatureBlock, gallery: FeatureBlock, out: Tensor) -> Tensor:
        """Write -q.g (see `DistanceMetric.approximate`)."""
        dot_products(-query.vectors, gallery.vectors, out)
        return _margin(
            query, gallery, max_roundings(query.vectors.shape[1]), query.sizes, query.sizes
        )

    def offset(self, query: Tensor) -> Tensor:
        """Return 1 (see `DistanceMetric.offset`)."""
        return query.new_ones(len(query), dtype=torch.float64)

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        dot = tree_sum(query * gallery)
        squares = tree_sum(query.square_()) * tree_sum(gallery.square_())
        # One division of squares, not two by roots, lets parallel integer vectors tie.
        squared_cosine = dot.square() / torch.where(squares == 0, 1, squares)
        return 1 - dot.sign() * squared_cosine.clamp(max=1).sqrt()


class Manhattan(DistanceMetric):
    """Compute sum |q_i - g_i|, the L1 distance; its keys are the distances."""

    degree = 1

    def prepare(self, features: Tensor, dtype: torch.dtype) -> FeatureBlock:
        """Cast and measure vectors (see `DistanceMetric.prepare`)."""
        vectors = self._cast(features, dtype)
        sums = torch.linalg.vector_norm(vectors, ord=1, dim=1).double()
        return FeatureBlock(vectors, sums, self._integral(vectors))

    def approximate(self, query: FeatureBlock, gallery: FeatureBlock, out: Tensor) -> Tensor:
        """Write the distances (see `DistanceMetric.approximate`)."""
        out.copy_(torch.cdist(query.vectors, gallery.vectors, p=1))
        magnitude = query.sizes + gallery.sizes.max()
        return _margin(query, gallery, query.vectors.shape[1], magnitude, magnitude)

    def offset(self, query: Tensor) -> Tensor:
        """Return 0 (see `DistanceMetric.offset`)."""
        return query.new_zeros(len(query), dtype=torch.float64)

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).abs_())


DISTANCE_METRICS: dict[str, Callable[[float], DistanceMetric]] = {
    "euclidean": Euclidean,
    "cosine": Cosine,
    "l1": Manhattan,
}
"""The distance metrics by name, each built from a scale."""


def build_distance_metric(name: str, scale: float = 1.0) -> DistanceMetric:
    """Return the distance metric of a name.

    Args:
        name: Key of `DISTANCE_METRICS`.
        scale: Power of two to multiply features by, so that float32 holds their squares.

    Raises:
        ValueError: There is no metric of that name.
    """
    check_choice("metric", name, tuple(DISTANCE_METRICS))
    return DISTANCE_METRICS[name](scale)


def _margin(
    query: FeatureBlock, gallery: FeatureBlock, rounded: int, summed: Tensor, magnitude: Tensor
) -> Tensor:
    """Return the largest possible error (Q,) float64 of fast keys.

    Args:
        query: Block of Q vectors that the keys were computed from.
        gallery: Block of the other vectors.
        rounded: Most roundings of any term of the long sum.
        summed: (Q,) bound of the sum of magnitudes in the long sum.
        magnitude: (Q,) the same, with the terms that are added in a few more steps.
    """
    unit = torch.finfo(query.vectors.dtype).eps / 2
    is_exact = query.integral & gallery.integral & (magnitude.max() < min(1 / unit, MAX_INTEGER))
    values = query.vectors.shape[1]
    # Exact keys are rounded as well, which counts where fast keys are float64 too.
    roundings = rounded * unit + values * torch.finfo(torch.float64).eps
    margin = (
        summed * (roundings / (1 - 2 * roundings))
        + magnitude * (EXTRA_ROUNDINGS * unit)
        + values * UNDERFLOW
    )
    return torch.where(is_exact, 0, margin)


def _false(device: torch.device) -> Tensor:
    return torch.zeros((), dtype=torch.bool, device=device)
