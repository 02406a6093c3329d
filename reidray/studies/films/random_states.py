"""The sweep over random states on a Ray cluster."""

import numpy as np
import ray
from numpy.typing import NDArray

from reidray.config.films import SweepConfig
from reidray.progress import Counter
from reidray.studies.films.mixtures import StateFits, fit_random_state


def draw_random_states(seed: int, count: int) -> list[int]:
    """Random states that another seed does not share."""
    states: list[int] = np.random.SeedSequence(seed).generate_state(count).tolist()
    return states


def sweep_random_states(
    means: NDArray[np.float64], seed: int, config: SweepConfig
) -> list[StateFits]:
    """Fit mixtures from many random states, one Ray task for each.

    Args:
        means: (U, G) float64, each user's mean of each genre.
        seed: from which the random states are drawn.
        config: how many there are, and what to fit.

    Returns:
        What each random state gave, in the order they were drawn, however many workers there are.
    """
    states = draw_random_states(seed, config.random_states)
    shared = ray.put(means)
    task = ray.remote(num_cpus=1)(fit_random_state)
    tasks = [task.remote(shared, state, config) for state in states]
    pending = tasks
    each = len(config.cluster_counts)
    with Counter("Fitting", total=len(tasks) * each, unit="mixtures") as counter:
        while pending:
            done, pending = ray.wait(pending)
            counter.advance(len(done) * each)
    return ray.get(tasks)  # type: ignore[no-any-return]
