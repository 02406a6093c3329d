"""Fit Gaussian mixtures to users, and choose the number of clusters."""

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
    """Hold the fits of one random state with each number of clusters.

    Attributes:
        random_state: the seed of the fits.
        bic: (K,) float64, the Bayesian information criterion of each fit; lower is better.
        converged: (K,) bool, whether each fit converged.
    """

    random_state: int
    bic: NDArray[np.float64]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """Hold the chosen mixture.

    Attributes:
        clusters: the number of clusters with the most votes; the smallest of several.
        random_state: the random state with the lowest BIC at that number; the first of several.
        votes: the number of random states with their lowest BIC, by number of clusters.
    """

    clusters: int
    random_state: int
    votes: dict[int, int]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Hold clusters of users, the largest first.

    Attributes:
        centres: (K, G) float64, the mean rating of each genre by the users whose most likely
            cluster it is, in stars; of a cluster without such users, the mean of its Gaussian.
        probabilities: (U, K) float64, the probability of each cluster for each user.
        bic: the BIC of the mixture.
        converged: whether the fit of the mixture converged.
    """

    centres: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    bic: float
    converged: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the most likely cluster of each user, from 0: (U,) int64."""
        labels: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return labels

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the number of users in each cluster: (K,) int64."""
        return np.bincount(self.labels, minlength=len(self.centres))


def fit_random_state(
    means: NDArray[np.float64], random_state: int, config: SweepConfig
) -> StateFits:
    """Fit a mixture with each number of clusters from one random state, in one thread.

    Args:
        means: (U, G) float64, the mean rating of each genre by each user.
        random_state: the seed of k-means, which initialises the mixture.
        config: the numbers of clusters and the kind of mixture.
    """
    with threadpool_limits(1):  # tasks share the cores; sums keep their order
        fits = [_fit(means, count, random_state, config) for count in config.cluster_counts]
        bic = np.array([mixture.bic(means) for mixture in fits])
    return StateFits(random_state, bic, np.array([mixture.converged_ for mixture in fits]))


def choose_mixture(fits: Sequence[StateFits], config: SweepConfig) -> Choice:
    """Choose the number of clusters with the most votes, and its random state with the best BIC."""
    counts = config.cluster_counts
    votes = Counter(counts[int(state.bic.argmin())] for state in fits)
    clusters = min(votes, key=lambda count: (-votes[count], count))
    best = min(fits, key=lambda state: state.bic[counts.index(clusters)])
    return Choice(clusters, best.random_state, dict(sorted(votes.items())))


def cluster_users(means: NDArray[np.float64], choice: Choice, config: SweepConfig) -> Clusters:
    """Fit the chosen mixture again, with the same result, and return its clusters.

    Args:
        means: (U, G) float64, the mean rating of each genre by each user.
        choice: the number of clusters and the random state.
        config: the kind of mixture.
    """
    with threadpool_limits(1):
        mixture = _fit(means, choice.clusters, choice.random_state, config)
        probabilities, bic = mixture.predict_proba(means), mixture.bic(means)
    labels = probabilities.argmax(axis=1)
    sizes = np.bincount(labels, minlength=choice.clusters)
    centres = mixture.means_.copy()
    for cluster in np.flatnonzero(sizes):
        centres[cluster] = means[labels == cluster].mean(axis=0)
    order = np.argsort(-sizes, kind="stable")
    return Clusters(centres[order], probabilities[:, order], float(bic), bool(mixture.converged_))


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
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` holds it
        return mixture.fit(means)
