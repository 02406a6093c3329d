"""How far a figure could be off, had other people been photographed (Efron and Tibshirani 1993)."""

import numpy as np
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import Labels, as_labels

RESAMPLES = 1000
LEVEL = 0.95
DRAWS_AT_ONCE = 1 << 20


def bootstrap_intervals(
    values: NDArray[np.floating], people: Labels, *, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of means over images, drawn person by person.

    Images of one person are alike, so that whole people are drawn, as many as there are, with
    replacement, `RESAMPLES` times; between the two ends of an interval lie `LEVEL` of the means.
    With few people it is narrower than it should be, and of one person it has no width.

    Args:
        values: (N, M) numbers, M figures of each image.
        people: (N,) whole numbers, who is on it.
        seed: of the draws.

    Returns:
        (M, 2) float64, the ends of the interval of each figure's mean.

    Raises:
        ValueError: no image, or not one person for each.
    """
    images = len(values)
    if not images:
        raise ValueError("values hold no image: expected at least one")
    _, person = np.unique(as_labels("people", people, images), return_inverse=True)
    counts = np.bincount(person)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, person, values)
    draws = np.random.default_rng(seed)
    means, rows = [], max(1, DRAWS_AT_ONCE // len(counts))
    for start in range(0, RESAMPLES, rows):
        drawn = draws.integers(len(counts), size=(min(rows, RESAMPLES - start), len(counts)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1, keepdims=True))
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T)
