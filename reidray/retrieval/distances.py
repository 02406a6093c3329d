"""How far apart two images are: quickly with a known error, and exactly.

A matrix product in float32 is fast, but its last bits depend on the shape of the block, on the
machine and on the number of threads. So a block of it only narrows the choice, with a bound on
its error (Higham 2002, section 3.1: a sum of n products, in any order, is off by at most
n u / (1 - n u) times the sum of their magnitudes; `sums.product` keeps n small). What lies within
the bound is decided by `Metric.exact`: float64, one fixed order of summation per pair, the same
everywhere.

Both speak in *keys*: numbers that order a query's gallery images as its distances do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.retrieval.array_inputs import check_choice
from reidray.retrieval.numerics import (
    longest_sum,
    product,
    single_thread,
    squared_lengths,
    tree_sum,
)

EXACT_PAIR_VALUES = 1 << 18
SPARE_ROUNDINGS = 64  # a few for each step, and those of two lengths for the cosine
TINY = 2.0**-120
FAINT = 2.0**-100
LARGEST_WHOLE = 2.0**48


@dataclass(frozen=True)
class Prepared:
    """A block of features, ready for `Metric.approximate`.

    Attributes:
        vectors: (N, D) float32 or float64.
        sizes: (N,) float64: squared lengths (euclidean), sums of magnitudes (L1), 1 (cosine).
        integral: every value is a whole number.
    """

    vectors: Tensor
    sizes: Tensor
    integral: bool


class Metric(ABC):
    """A distance between feature vectors; smaller is more alike.

    Args:
        scale: a power of two to multiply features by, so that float32 can hold their squares.
    """

    degree: int  # features twice as large have keys 2 ** degree times as large

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale

    @abstractmethod
    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """Casts a block of features (N, D) and measures its vectors."""

    @abstractmethod
    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """Writes fast keys, less each query's `offset`, to `out` (Q, G) of the vectors' dtype.

        Returns:
            (Q,) float64, how far these keys can be from the exact ones; 0 where they are exact.
        """

    @abstractmethod
    def offset(self, query: Tensor) -> Tensor:
        """(Q,) float64, what `approximate` leaves out of the keys of these features (Q, D)."""

    @abstractmethod
    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Keys (N,) of N pairs of float64 vectors, both (N, D) and both to be overwritten."""

    def unscaled(self, keys: Tensor) -> Tensor:
        """These exact keys as they are without the scale, so that those of two scales compare."""
        return keys / self._scale**self.degree

    def distance(self, keys: Tensor) -> Tensor:
        """The distances that these exact keys stand for."""
        return self.unscaled(keys)

    def _cast(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        vectors = features.to(dtype)
        return vectors if self._scale == 1 else vectors * self._scale

    def _integral(self, vectors: Tensor) -> bool:
        as_given = self._scale == 1  # a scale may have made zeros of small values
        return as_given and all(torch.equal(part, part.round()) for part in (vectors[:1], vectors))

    def exact(self, query: Tensor, gallery: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The keys of the pairs `(rows[i], columns[i])`, the same in whatever block they stand.

        Args:
            query: (Q, D) of any floating dtype; read as float32.
            gallery: (G, D) likewise.
            rows: (N,) int64 indices into query.
            columns: (N,) int64 indices into gallery.

        Returns:
            (N,) float64.
        """
        keys = torch.empty(len(rows), dtype=torch.float64, device=query.device)
        step = max(1, EXACT_PAIR_VALUES // query.shape[1])
        # Memory is taken once: to get it anew for each step costs more than the arithmetic.
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


class Euclidean(Metric):
    """The straight-line distance; its keys are squared distances."""

    degree = 2

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`."""
        vectors = self._cast(features, dtype)
        if self._integral(vectors):
            return Prepared(vectors, vectors.square().sum(dim=1).double(), integral=True)
        return Prepared(vectors, squared_lengths(vectors), integral=False)

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`: |g|^2 - 2 q.g, a matrix product."""
        product(-2 * query.vectors, gallery.vectors, out)
        out += gallery.sizes.to(out.dtype)
        # The product is of magnitude 2 |q| |g|, which is at most |q|^2 + |g|^2.
        largest = gallery.sizes.max()
        return _margin(
            query,
            gallery,
            longest_sum(query.vectors.shape[1]),
            query.sizes + largest,
            query.sizes + 2 * largest,
        )

    def offset(self, query: Tensor) -> Tensor:
        """See `Metric.offset`: |q|^2."""
        return tree_sum(self._cast(query, torch.float64).square())

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).square_())

    def distance(self, keys: Tensor) -> Tensor:
        """The root of the squared distance."""
        return self.unscaled(keys).sqrt()


class Cosine(Metric):
    """1 - cos of the angle; a vector of zeros is at distance 1 from everything."""

    degree = 0

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`; vectors are brought to length 1."""
        vectors = self._cast(features, dtype)
        norms = squared_lengths(vectors).sqrt()
        faint = norms < FAINT
        if faint.any():  # of a length that float32 holds with few digits, or of none
            vectors = torch.where(faint[:, None], vectors / FAINT, vectors)
            norms = torch.where(faint, norms / FAINT, norms)
            norms = torch.where(norms == 0, 1, norms)
        return Prepared(vectors / norms.to(dtype)[:, None], torch.ones_like(norms), integral=False)

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`: - q.g, a matrix product."""
        product(-query.vectors, gallery.vectors, out)
        return _margin(
            query, gallery, longest_sum(query.vectors.shape[1]), query.sizes, query.sizes
        )

    def offset(self, query: Tensor) -> Tensor:
        """See `Metric.offset`: 1."""
        return query.new_ones(len(query), dtype=torch.float64)

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        dot = tree_sum(query * gallery)
        squares = tree_sum(query.square_()) * tree_sum(gallery.square_())
        # One division of squares, not two by roots: parallel vectors of whole numbers then tie.
        squared_cosine = dot.square() / torch.where(squares == 0, 1, squares)
        return 1 - dot.sign() * squared_cosine.clamp(max=1).sqrt()


class Manhattan(Metric):
    """The sum of absolute differences (L1)."""

    degree = 1

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`."""
        vectors = self._cast(features, dtype)
        sums = torch.linalg.vector_norm(vectors, ord=1, dim=1).double()
        return Prepared(vectors, sums, self._integral(vectors))

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`."""
        out.copy_(torch.cdist(query.vectors, gallery.vectors, p=1))
        magnitude = query.sizes + gallery.sizes.max()
        return _margin(query, gallery, query.vectors.shape[1], magnitude, magnitude)

    def offset(self, query: Tensor) -> Tensor:
        """See `Metric.offset`: nothing."""
        return query.new_zeros(len(query), dtype=torch.float64)

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).abs_())


DISTANCE_METRICS: dict[str, Callable[[float], Metric]] = {
    "euclidean": Euclidean,
    "cosine": Cosine,
    "l1": Manhattan,
}


def build_distance_metric(name: str, scale: float = 1.0) -> Metric:
    """The metric of this name, for features that `scale` brings to a comfortable size.

    Raises:
        ValueError: there is none.
    """
    check_choice("metric", name, tuple(DISTANCE_METRICS))
    return DISTANCE_METRICS[name](scale)


def _margin(
    query: Prepared, gallery: Prepared, longest: int, summed: Tensor, magnitude: Tensor
) -> Tensor:
    """How far fast keys may be off.

    Args:
        query: what the keys were computed from.
        gallery: likewise.
        longest: how many roundings a term of the long sum goes through.
        summed: (Q,) the most that the magnitudes in the long sum add up to.
        magnitude: (Q,) the same with what is added to that sum in a few more steps.
    """
    unit = torch.finfo(query.vectors.dtype).eps / 2
    if query.integral and gallery.integral and magnitude.max() < min(1 / unit, LARGEST_WHOLE):
        return torch.zeros_like(magnitude)
    values = query.vectors.shape[1]
    # The exact keys are float64, whose own roundings count beside those of a float64 product.
    roundings = longest * unit + values * torch.finfo(torch.float64).eps
    return (
        summed * (roundings / (1 - 2 * roundings))
        + magnitude * (SPARE_ROUNDINGS * unit)
        + values * TINY
    )
