"""What Tune hears of a trial that Ray Train trains."""

from typing import Any

from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback


class JudgedEpochs(TuneReportCallback):  # type: ignore[misc]
    """Tells Tune of the epochs that were judged, as a trial of one process does.

    Ray Train's controller loads it: so it stands apart from what imports PyTorch.
    """

    def __init__(self, figure: str) -> None:
        super().__init__()
        self._figure = figure

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """An epoch ended on all workers, of which the first has its figures."""
        if self._figure in metrics[0]:
            super().after_report(run_context, metrics, checkpoint)
