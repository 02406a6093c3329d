"""Fit mixtures from many random states on a Ray cluster."""

import numpy as np
import ray
from numpy.typing import NDArray

from reidray.cluster_resources import wait_for_resources
from reidray.config.films import MAX_STATES, SweepConfig
from reidray.progress import Counter
from reidray.studies.films.gaussian_mixtures import StateFits, fit_random_state

NUM_STATES = 2**32
"""Number of seeds that scikit-learn takes."""


def list_random_states(seed: int, count: int) -> list[int]:
    """Return the random states of a seed: 0, 1, 2, ... of seed 0, and others of each other seed."""
    return [(seed * MAX_STATES + state) % NUM_STATES for state in range(count)]


def fit_random_states(
    means: NDArray[np.float64], seed: int, config: SweepConfig
) -> list[StateFits]:
    """Fit mixtures from many random states, with one Ray task for each.

    Args:
        means: (U, G) float64, the mean rating of each genre by each user.
        seed: the seed of the random states.
        config: the number of random states, and the mixtures to fit.

    Returns:
        The fits of each random state, in the order of the states, for any number of workers.

    Raises:
        UserError: the cluster had no free CPU in time.
    """
    wait_for_resources([{"CPU": 1}])
    states = list_random_states(seed, config.random_states)
    shared = ray.put(means)
    task = ray.remote(num_cpus=1)(fit_random_state)
    tasks = [task.remote(shared, state, config) for state in states]
    pending = tasks
    fits_per_state = len(config.cluster_counts)
    with Counter("Fitting", total=len(tasks) * fits_per_state, unit="mixtures") as counter:
        while pending:
            done, pending = ray.wait(pending)
            counter.advance(len(done) * fits_per_state)
    return ray.get(tasks)  # type: ignore[no-any-return]
