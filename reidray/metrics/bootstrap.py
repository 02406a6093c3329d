"""Compute confidence intervals of metrics by a bootstrap over persons."""

import numpy as np
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import Labels, check_labels

RESAMPLES = 1000
LEVEL = 0.95
DRAWS_AT_ONCE = 1 << 20


def bootstrap_intervals(
    values: NDArray[np.floating], person_ids: Labels, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return percentile bootstrap intervals of means over images, drawn person by person.

    Images of one person resemble each other, so each resample draws whole persons with replacement,
    as many as there are, and takes the mean over all their images. The interval spans the central
    `LEVEL` of the means of `RESAMPLES` resamples (Efron and Tibshirani 1993, "An Introduction to
    the Bootstrap"). With few persons it is too narrow; with one it has no width.

    >>> values = np.array([[1.0], [1.0], [0.0], [0.5]])
    >>> bootstrap_intervals(values, [1, 1, 2, 3]).tolist()  # of the mean 0.625
    [[0.0, 1.0]]

    Args:
        values: (N, M) numbers, M metrics of each image.
        person_ids: (N,) whole numbers, the person on each image.
        seed: Seed of the resamples.

    Returns:
        (M, 2) float64, the ends of the interval of the mean of each metric.

    Raises:
        ValueError: There is no image, or not one person for each image.
    """
    images = len(values)
    if not images:
        raise ValueError("`values` hold no image: expected at least one")
    _, person = np.unique(check_labels("person_ids", person_ids, images), return_inverse=True)
    counts = np.bincount(person)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, person, values)
    generator = np.random.default_rng(seed)
    means, rows = [], max(1, DRAWS_AT_ONCE // len(counts))
    for start in range(0, RESAMPLES, rows):
        drawn = generator.integers(len(counts), size=(min(rows, RESAMPLES - start), len(counts)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1, keepdims=True))
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T)
