"""Evaluate a distance threshold that decides whether a query's person is in the gallery at all.

The rates are those of Grother and Ngan (2014, "Face Recognition Vendor Test", NISTIR 8009). A
genuine distance is one to the person of the query, an impostor distance one to somebody else.
"""

from dataclasses import dataclass

import numpy as np

from reidray.metrics.pair_distances import Distances, PairDistances
from reidray.metrics.protocols import PROTOCOLS, build_ground_truth
from reidray.retrieval.array_inputs import (
    Array,
    Labels,
    check_at_least,
    check_choice,
    check_features,
)
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.numerics import full_precision

UNITS = ("query", "pair")
BYTES_PER_PAIR = 64
"""Query, image and distance of a pair, twice while the smallest are selected."""


@dataclass(frozen=True)
class OperatingPoint:
    """Hold a distance threshold and its rates.

    Attributes:
        threshold: Largest accepted distance, for `max_distance` of `reidray.retrieval.top_k`.
        false_accept_rate: Share of the impostor distances within the threshold.
        true_accept_rate: Share of the genuine distances within the threshold.
    """

    threshold: float
    false_accept_rate: float
    true_accept_rate: float


@dataclass(frozen=True, eq=False)
class OpenSetMetrics:
    """Hold genuine and impostor distances, and compute rates from them.

    Attributes:
        genuine: (R,) float64 distances, ascending.
        impostor: (W,) float64, the W smallest distances, ascending.
        num_impostors: Number of all impostor distances, at least W.
        unit: "query" or "pair".
    """

    genuine: Distances
    impostor: Distances
    num_impostors: int
    unit: str

    def at(self, false_accept_rate: float) -> OperatingPoint:
        """Return the highest threshold whose false-accept rate is at most a given one.

        >>> distances = np.array([1.0, 3.0]), np.array([2.0, 4.0, 5.0, 6.0])
        >>> OpenSetMetrics(*distances, num_impostors=4, unit="query").at(0.25)
        OperatingPoint(threshold=3.9999999999999996, false_accept_rate=0.25, true_accept_rate=1.0)

        Args:
            false_accept_rate: Highest share of impostors to accept, 0 to 1. A rate of 1 gives an
                infinite threshold; at 0 the threshold is just below the nearest impostor.

        Raises:
            ValueError: The rate is not between 0 and 1, or exceeds the `max_rate` of
                `evaluate_open_set`.
        """
        if not 0 <= false_accept_rate <= 1:
            raise ValueError(f"`false_accept_rate` is {false_accept_rate}: expected 0 to 1")
        allowed = _allowed(false_accept_rate, self.num_impostors)
        if len(self.impostor) <= allowed < self.num_impostors:
            raise ValueError(
                f"`false_accept_rate` is {false_accept_rate}: expected at most the `max_rate` of "
                "`evaluate_open_set`"
            )
        if allowed == self.num_impostors:
            return OperatingPoint(float("inf"), 1.0, 1.0)
        first_refused = self.impostor[allowed]
        return OperatingPoint(
            threshold=float(np.nextafter(first_refused, -np.inf)),
            false_accept_rate=float((self.impostor < first_refused).sum() / self.num_impostors),
            true_accept_rate=float((self.genuine < first_refused).mean()),
        )

    def roc(self) -> tuple[Distances, Distances]:
        """Return the ROC curve: false-accept and true-accept rates (N,), both ascending.

        There is a point for each distinct impostor distance, and (1, 1) where all are kept.

        >>> distances = np.array([1.0, 3.0]), np.array([2.0, 4.0])
        >>> false, true = OpenSetMetrics(*distances, num_impostors=2, unit="query").roc()
        >>> false.tolist(), true.tolist()
        ([0.0, 0.5, 1.0], [0.5, 1.0, 1.0])
        """
        steps = np.unique(self.impostor)
        false = self.impostor.searchsorted(steps) / self.num_impostors
        true = self.genuine.searchsorted(steps) / len(self.genuine)
        if len(self.impostor) == self.num_impostors:
            false, true = np.append(false, 1.0), np.append(true, 1.0)
        return false, true


def evaluate_open_set(
    query: Array,
    gallery: Array,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    *,
    unit: str = "query",
    metric: str = "euclidean",
    protocol: str = "market1501",
    max_rate: float = 0.01,
    memory_mb: float = 512,
) -> OpenSetMetrics:
    """Compute the accuracy of a distance threshold that separates known persons from strangers.

    For a threshold t, over the genuine distances d+ and the impostor distances d-:

        FAR(t) = |{d- <= t}| / |{d-}|      false-accept rate, also FPR
        TAR(t) = |{d+ <= t}| / |{d+}|      true-accept rate, also TPR

    The unit decides what is counted:

    - `query`: the genuine distance of a query is that to its nearest match; a query without a match
      has none. Its impostor distance is that to the nearest image of anybody else, which is what a
      stranger in its place would be shown. At a false-accept rate of 0.01, one of 100 strangers is
      given a name.
    - `pair`: every query with every gallery image, as in verification. TAR at a given FAR is then
      TPR@FPR of fast-reid.

    Junk images and images that the protocol hides from a query count as neither. Distances are
    exact float64 values, the same for every block size, number of threads and machine.

    >>> query = np.array([[0.0], [10.0]], np.float32)
    >>> gallery = np.array([[1.0], [14.0]], np.float32)
    >>> rates = evaluate_open_set(query, gallery, [1, 7], [1, 2], protocol="all")
    >>> rates.genuine.tolist(), rates.impostor.tolist()  # nobody in the gallery is person 7
    ([1.0], [4.0, 14.0])
    >>> rates.at(0.5).true_accept_rate
    1.0

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        query_ids: (Q,) whole numbers, the person of each query.
        gallery_ids: (G,) whole numbers, the person of each gallery image.
        query_cameras: (Q,) whole numbers, where the protocol needs them.
        gallery_cameras: (G,) whole numbers of the gallery images.
        unit: "query" or "pair".
        metric: "euclidean", "cosine" or "l1".
        protocol: Protocol as in `reidray.metrics.evaluate`.
        max_rate: Highest false-accept rate that `OpenSetMetrics.at` accepts, 0 to 1, for
            the unit "pair": impostor distances beyond it are not kept.
        memory_mb: Working memory in megabytes, beyond inputs and result.

    Raises:
        ValueError: An argument is not as described, no query has a match, or the gallery holds
            nobody else; the message names the argument.
    """
    check_choice("unit", unit, UNITS)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_choice("protocol", protocol, PROTOCOLS)
    check_at_least("memory_mb", memory_mb, 1)
    if not 0 <= max_rate <= 1:
        raise ValueError(f"`max_rate` is {max_rate}: expected 0 to 1")
    queries, images, scale = check_features(query, gallery)
    chosen = build_distance_metric(metric, scale)
    shape = len(queries), len(images)
    truth = build_ground_truth(
        query_ids, gallery_ids, query_cameras, gallery_cameras, protocol, shape
    )
    with full_precision(queries.device):
        pairs = PairDistances(queries, images, truth, chosen, memory_mb)
        if unit == "query":
            genuine, impostor = pairs.nearest()
            total = len(impostor)
        else:
            total = pairs.count_impostors()
            wanted = min(total, _allowed(max_rate, total) + 1)
            _check_memory(wanted, total, memory_mb)
            genuine, impostor = pairs.all_genuine_and_nearest_impostors(wanted)
    if total == 0:
        raise ValueError("`gallery_ids` hold nobody but the queries' own persons: expected others")
    return OpenSetMetrics(np.sort(genuine), np.sort(impostor), total, unit)


def _allowed(rate: float, impostors: int) -> int:
    """Return the number of impostors that a false-accept rate allows, tolerant of its rounding."""
    return min(impostors, int(rate * impostors * (1 + 1e-12)))


def _check_memory(wanted: int, total: int, memory_mb: float) -> None:
    limit = int(memory_mb * 2**20 / BYTES_PER_PAIR)
    if wanted > limit:
        raise ValueError(
            f"`max_rate` asks for {wanted:,} of {total:,} pairs: "
            f"expected at most {limit / total:.2g} with `memory_mb={memory_mb:g}`"
        )
