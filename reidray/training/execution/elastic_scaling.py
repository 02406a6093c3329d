"""Train on Ray with a number of workers that follows the nodes of the cluster.

Ray Train's own elastic training takes any number of workers. A batch is divided evenly among few
of them. So this module chooses among those. It imports no PyTorch, because Ray Train's controller
loads it.
"""

import time
from collections.abc import Sequence
from typing import Any

from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ScalingDecision
from ray.train.v2._internal.execution.scaling_policy.elastic import ElasticScalingPolicy

from reidray.errors import UserError


class EvenScalingPolicy(ElasticScalingPolicy):  # type: ignore[misc]
    """Give a training the largest number of workers that has room and divides the batch.

    Args:
        scaling_config: resources of each worker, and the range of their number.
        counts: numbers of workers that divide the batch.
        patience: seconds without room for the least number after which the training ends.
    """

    def __init__(
        self, scaling_config: ScalingConfig, counts: Sequence[int], patience: float
    ) -> None:
        super().__init__(scaling_config)
        self._counts, self._patience = tuple(counts), patience
        self._waits_since: float | None = None

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Return the number of workers to start, or none while there is no room.

        Raises:
            UserError: there was no room for the whole patience.
        """
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, NoopDecision):
            self._waits_since = None
            return decision
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        if now - self._waits_since > self._patience:
            raise UserError(
                f"no room for `min_workers={self._counts[0]}` training workers within "
                f"{self._patience:.0f} s: continue with `resume` once nodes are there, or raise "
                "`wait_for_resources`"
            )
        return decision

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        possible = super()._count_possible_workers(reserved_resources)
        return max((count for count in self._counts if count <= possible), default=0)
