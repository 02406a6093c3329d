"""Count what the workers of a run have done, in an actor whose process imports little."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Tally:
    """Count the images that all workers have embedded. Work that is repeated counts again."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, count: int) -> None:
        """Add images."""
        self._count += count

    def read(self) -> int:
        """Return the number of images so far."""
        return self._count


def start_tally() -> Any:
    """Start a `Tally` on the machine of this process, and return its handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, scheduling_strategy=here)(Tally)
    return actor.remote()
