"""Tell whether to name anyone: a distance beyond which the nearest image is not the person.

Grother and Ngan (2014, "Face Recognition Vendor Test", NISTIR 8009) define the rates. A genuine
distance is one to the query's own person, an impostor's one to somebody else.
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
    read_features,
)
from reidray.retrieval.distances import DISTANCE_METRICS, build_distance_metric
from reidray.retrieval.numerics import full_precision

UNITS = ("query", "pair")
BYTES_PER_PAIR = 64  # its query, image and distance, twice while the least are picked out


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does.

    Attributes:
        threshold: the distance up to which a match is accepted, for `max_distance` of `top_k`.
        false_accept_rate: share of the impostors' distances within it.
        true_accept_rate: share of the genuine ones within it.
    """

    threshold: float
    false_accept_rate: float
    true_accept_rate: float


@dataclass(frozen=True, eq=False)
class OpenSetMetrics:
    """Genuine and impostors' distances, and the rates that a threshold has among them.

    Attributes:
        genuine: (R,) float64 ascending.
        impostor: (W,) float64 ascending, the least of them.
        num_impostors: how many there are in all, W or more.
        unit: "query" or "pair".
    """

    genuine: Distances
    impostor: Distances
    num_impostors: int
    unit: str

    def at(self, false_accept_rate: float) -> OperatingPoint:
        """The highest threshold that accepts no more than this share of the impostors.

        Raises:
            ValueError: the rate is not within 0 and 1, or above the `max_rate` that was asked for.
        """
        if not 0 <= false_accept_rate <= 1:
            raise ValueError(f"false_accept_rate is {false_accept_rate}: expected 0 to 1")
        allowed = _allowed(false_accept_rate, self.num_impostors)
        if len(self.impostor) <= allowed < self.num_impostors:
            raise ValueError(
                f"false_accept_rate is {false_accept_rate}: expected at most the max_rate that "
                "open_set was given"
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
        """False-accept and true-accept rates (N,) each, both rising, a point for each threshold."""
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
    """How well a distance threshold tells that the query's person is, or is not, in the gallery.

    The units that are counted:

    - `query`: a query's genuine distance is that to its nearest match; its impostor's distance is
      that to the nearest image of anybody else, which is what a stranger in its place would be
      shown. A false-accept rate of 0.01 then means: of 100 strangers one is given a name.
    - `pair`: every query with every gallery image, as in verification. TPR@FPR of fast-reid.

    Exact: distances are float64, the same for every block size, number of threads and machine.

    Args:
        query: (Q, D) float32, float16 or bfloat16; NumPy or PyTorch, on any device.
        gallery: (G, D) of the same library, on the same device.
        query_ids: (Q,) whole numbers, the persons.
        gallery_ids: (G,) likewise.
        query_cameras: (Q,) whole numbers, where the protocol needs them.
        gallery_cameras: (G,) likewise.
        unit: "query" or "pair".
        metric: "euclidean", "cosine" or "l1".
        protocol: what a query does not see, as in `evaluate`.
        max_rate: of pairs, the highest false-accept rate that can be asked of the result; all
            impostors' distances up to it are kept.
        memory_mb: megabytes to work in, beyond inputs and result.

    Raises:
        ValueError: an argument is not as said here, or no query has a match; the message names it.
    """
    check_choice("unit", unit, UNITS)
    check_choice("metric", metric, tuple(DISTANCE_METRICS))
    check_choice("protocol", protocol, PROTOCOLS)
    check_at_least("memory_mb", memory_mb, 1)
    if not 0 <= max_rate <= 1:
        raise ValueError(f"max_rate is {max_rate}: expected 0 to 1")
    queries, images, scale = read_features(query, gallery)
    how = build_distance_metric(metric, scale)
    shape = len(queries), len(images)
    truth = build_ground_truth(
        query_ids, gallery_ids, query_cameras, gallery_cameras, protocol, shape
    )
    with full_precision(queries.device):
        pairs = PairDistances(queries, images, truth, how, memory_mb)
        if unit == "query":
            genuine, impostor = pairs.nearest()
            total = len(impostor)
        else:
            total = pairs.impostors()
            wanted = min(total, _allowed(max_rate, total) + 1)
            _check_room(wanted, total, memory_mb)
            genuine, impostor = pairs.all_genuine_and_least_impostors(wanted)
    if total == 0:
        raise ValueError("gallery_ids hold nobody but the queries' own persons: expected others")
    return OpenSetMetrics(np.sort(genuine), np.sort(impostor), total, unit)


def _allowed(rate: float, impostors: int) -> int:
    """How many impostors' distances a false-accept rate lets in, whatever its last bits."""
    return min(impostors, int(rate * impostors * (1 + 1e-12)))


def _check_room(wanted: int, total: int, memory_mb: float) -> None:
    most = int(memory_mb * 2**20 / BYTES_PER_PAIR)
    if wanted > most:
        raise ValueError(
            f"max_rate asks for {wanted:,} of {total:,} pairs: expected at most {most / total:.2g} "
            f"with memory_mb={memory_mb:g}"
        )
