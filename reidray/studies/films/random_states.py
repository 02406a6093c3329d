"""Fit mixtures from many random states on a Ray cluster."""

import numpy as np
import ray
from numpy.typing import NDArray

from reidray.config.films import SweepConfig
from reidray.progress import Counter
from reidray.studies.films.gaussian_mixtures import StateFits, fit_random_state


def draw_random_states(seed: int, count: int) -> list[int]:
    """Draw random states that depend on the seed."""
    states: list[int] = np.random.SeedSequence(seed).generate_state(count).tolist()
    return states


def fit_random_states(
    means: NDArray[np.float64], seed: int, config: SweepConfig
) -> list[StateFits]:
    """Fit mixtures from many random states, with one Ray task for each.

    Args:
        means: (U, G) float64, the mean rating of each genre by each user.
        seed: the seed of the random states.
        config: the number of random states, and the mixtures to fit.

    Returns:
        The fits of each random state, in the order of drawing, for any number of workers.
    """
    states = draw_random_states(seed, config.random_states)
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
