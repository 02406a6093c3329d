"""Report the epochs of a trial that Ray Train trains to Ray Tune.

Ray Train's controller imports this module, so it imports no PyTorch.
"""

from typing import Any

from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback


class EvaluatedEpochCallback(TuneReportCallback):  # type: ignore[misc]
    """Report evaluated epochs to Ray Tune, as a trial of one process does.

    Args:
        metric: the key of the metric that evaluated epochs have.
    """

    def __init__(self, metric: str) -> None:
        super().__init__()
        self._metric = metric

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Report an epoch that all workers have ended. The first worker has its metrics."""
        if self._metric in metrics[0]:
            super().after_report(run_context, metrics, checkpoint)
