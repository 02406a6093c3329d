"""Gaussian mixtures of users, and how many clusters they should have."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from reidray.config.films import SweepConfig


@dataclass(frozen=True, eq=False)
class StateFits:
    """What one random state gave with every number of clusters.

    Attributes:
        random_state: where the fits began.
        bic: (K,) float64, the Bayesian information criterion of each fit; less is better.
        converged: (K,) bool.
    """

    random_state: int
    bic: NDArray[np.float64]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """The mixture that a sweep speaks for.

    Attributes:
        clusters: the number that most random states chose; of several such, the smallest.
        random_state: the one that gave the lowest BIC at that number; of several, the first.
        votes: by number of clusters, how many random states had their lowest BIC there.
    """

    clusters: int
    random_state: int
    votes: dict[int, int]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of users, the largest first.

    Attributes:
        centres: (K, G) float64, each cluster's mean of each genre, in stars.
        probabilities: (U, K) float64, how likely each user belongs to each cluster.
        bic: of the mixture.
        converged: whether its fit did.
    """

    centres: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    bic: float
    converged: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """(U,) int64, each user's most likely cluster, counted from 0."""
        labels: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return labels

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(K,) int64, users in each cluster."""
        return np.bincount(self.labels, minlength=len(self.centres))


def fit_random_state(
    means: NDArray[np.float64], random_state: int, config: SweepConfig
) -> StateFits:
    """Fit a mixture with every number of clusters from one random state, in one thread.

    Args:
        means: (U, G) float64, each user's mean of each genre.
        random_state: where k-means, and from it the mixture, begins.
        config: the numbers of clusters and the kind of mixture.
    """
    with threadpool_limits(1):  # tasks share the cores, and sums keep their order
        fits = [_fit(means, count, random_state, config) for count in config.cluster_counts]
        bic = np.array([mixture.bic(means) for mixture in fits])
    return StateFits(random_state, bic, np.array([mixture.converged_ for mixture in fits]))


def choose(fits: Sequence[StateFits], config: SweepConfig) -> Choice:
    """The number of clusters that most random states chose, and the best fit with it."""
    counts = config.cluster_counts
    votes = Counter(counts[int(state.bic.argmin())] for state in fits)
    clusters = min(votes, key=lambda count: (-votes[count], count))
    best = min(fits, key=lambda state: state.bic[counts.index(clusters)])
    return Choice(clusters, best.random_state, dict(sorted(votes.items())))


def cluster_users(means: NDArray[np.float64], choice: Choice, config: SweepConfig) -> Clusters:
    """The clusters of the mixture that was chosen; it is fitted again, with the same result.

    Args:
        means: (U, G) float64, each user's mean of each genre.
        choice: number of clusters and random state.
        config: the kind of mixture.
    """
    with threadpool_limits(1):
        mixture = _fit(means, choice.clusters, choice.random_state, config)
        probabilities, bic = mixture.predict_proba(means), mixture.bic(means)
    sizes = np.bincount(probabilities.argmax(axis=1), minlength=choice.clusters)
    order = np.argsort(-sizes, kind="stable")
    return Clusters(
        mixture.means_[order], probabilities[:, order], float(bic), bool(mixture.converged_)
    )


def _fit(
    means: NDArray[np.float64], clusters: int, random_state: int, config: SweepConfig
) -> GaussianMixture:
    mixture = GaussianMixture(
        clusters,
        covariance_type=config.covariance,
        reg_covar=config.regularisation,
        max_iter=config.max_iterations,
        random_state=random_state,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` tells it
        return mixture.fit(means)
