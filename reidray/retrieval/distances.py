"""How far apart two images are: quickly with a known error, and exactly.

A matrix product in float32 is fast, but its last bits depend on the shape of the block, on the
machine and on the number of threads. So a block of it only narrows the choice, with a bound on
its error (Higham 2002, section 3.1: a sum of n products, in any order, is off by at most
n u / (1 - n u) times the sum of their magnitudes). What lies within the bound is decided by
`Metric.exact`: float64, one fixed order of summation per pair, the same everywhere.

Both speak in *keys*: numbers that order a query's gallery images as its distances do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reidray.retrieval.inputs import check_choice

EXACT_PAIR_VALUES = 1 << 19
SPARE_ROUNDINGS = 16
TINY = 2.0**-120


@dataclass(frozen=True)
class Prepared:
    """A block of features, ready for `Metric.approximate`.

    Attributes:
        vectors: (N, D) float32 or float64.
        sizes: (N,) float64, the vectors' lengths in the metric's own norm.
        integral: every value is a whole number.
    """

    vectors: Tensor
    sizes: Tensor
    integral: bool


class Metric(ABC):
    """A distance between feature vectors; smaller is more alike."""

    name: str

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
    def offset(self, query: Prepared) -> Tensor:
        """(Q,) float64, what `approximate` leaves out of a query's keys."""

    @abstractmethod
    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Keys (N,) of N pairs of float64 vectors, both (N, D) and both to be overwritten."""

    def distance(self, keys: Tensor) -> Tensor:
        """The distances that these exact keys stand for."""
        return keys

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
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            keys[part] = self._exact_pairs(
                query[rows[part]].double(), gallery[columns[part]].double()
            )
        return keys


class Euclidean(Metric):
    """The straight-line distance; its keys are squared distances."""

    name = "euclidean"

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`; sizes are Euclidean norms."""
        vectors = features.to(dtype)
        return Prepared(vectors, _norms(vectors, 2), _integral(vectors))

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`: |g|^2 - 2 q.g, one matrix product."""
        squares = gallery.sizes.square().to(out.dtype)
        torch.addmm(squares, query.vectors, gallery.vectors.T, alpha=-2, out=out)
        longest = gallery.sizes.max()
        return _margin(query, gallery, 2 * query.sizes * longest + longest.square(), out)

    def offset(self, query: Prepared) -> Tensor:
        """See `Metric.offset`: |q|^2."""
        return query.sizes.square()

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).square_())

    def distance(self, keys: Tensor) -> Tensor:
        """The root of the squared distance."""
        return keys.sqrt()


class Cosine(Metric):
    """1 - cos of the angle; a vector of zeros is at distance 1 from everything."""

    name = "cosine"

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`; vectors are brought to length 1."""
        vectors = features.to(dtype)
        norms = _norms(vectors, 2)
        norms = torch.where(norms == 0, 1, norms)
        return Prepared(vectors / norms.to(dtype)[:, None], torch.ones_like(norms), integral=False)

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`: - q.g, one matrix product."""
        torch.addmm(out, query.vectors, gallery.vectors.T, beta=0, alpha=-1, out=out)
        return _margin(query, gallery, query.sizes, out)

    def offset(self, query: Prepared) -> Tensor:
        """See `Metric.offset`: 1."""
        return query.sizes

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        dot = tree_sum(query * gallery)
        squares = tree_sum(query.square_()) * tree_sum(gallery.square_())
        # One division of squares, not two by roots: parallel vectors of whole numbers then tie.
        squared_cosine = dot.square() / torch.where(squares == 0, 1, squares)
        return 1 - dot.sign() * squared_cosine.clamp(max=1).sqrt()


class Manhattan(Metric):
    """The sum of absolute differences (L1)."""

    name = "l1"

    def prepare(self, features: Tensor, dtype: torch.dtype) -> Prepared:
        """See `Metric.prepare`; sizes are sums of magnitudes."""
        vectors = features.to(dtype)
        return Prepared(vectors, _norms(vectors, 1), _integral(vectors))

    def approximate(self, query: Prepared, gallery: Prepared, out: Tensor) -> Tensor:
        """See `Metric.approximate`."""
        out.copy_(torch.cdist(query.vectors, gallery.vectors, p=1))
        return _margin(query, gallery, query.sizes + gallery.sizes.max(), out)

    def offset(self, query: Prepared) -> Tensor:
        """See `Metric.offset`: nothing."""
        return torch.zeros_like(query.sizes)

    def _exact_pairs(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(query.sub_(gallery).abs_())


METRICS: dict[str, Callable[[], Metric]] = {
    "euclidean": Euclidean,
    "cosine": Cosine,
    "l1": Manhattan,
}


def metric_named(name: str) -> Metric:
    """The metric of this name.

    Raises:
        ValueError: there is none.
    """
    check_choice("metric", name, tuple(METRICS))
    return METRICS[name]()


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
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if before != "highest":
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, before)
        yield


def _margin(query: Prepared, gallery: Prepared, magnitude: Tensor, out: Tensor) -> Tensor:
    """How far sums of these magnitudes (Q,) may be off when computed in `out`'s dtype."""
    unit = torch.finfo(out.dtype).eps / 2
    if query.integral and gallery.integral and float(magnitude.max()) < 1 / unit:
        return torch.zeros_like(magnitude)
    roundings = (query.vectors.shape[1] + SPARE_ROUNDINGS) * unit
    margin: Tensor = magnitude * (roundings / (1 - roundings)) + query.vectors.shape[1] * TINY
    return margin


def _norms(vectors: Tensor, order: int) -> Tensor:
    return torch.linalg.vector_norm(vectors, ord=order, dim=1, dtype=torch.float64)


def _integral(vectors: Tensor) -> bool:
    return _whole(vectors[:1]) and _whole(vectors)


def _whole(vectors: Tensor) -> bool:
    return bool(torch.equal(vectors, vectors.round()))
