"""Hold the outputs of a training."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingRun:
    """Hold the outputs of a training.

    Attributes:
        directory: run directory, a local path or an `s3://` URI.
        model: model directory within it.
        report: HTML report within it.
        metrics: epochs and steps, the metrics of the best epoch, such as `mean_ap` and `rank1`,
            and a summary of the data set.
    """

    directory: str
    model: str
    report: str
    metrics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return all values in one dictionary, as the JSON line of a job shows them."""
        return {"run": self.directory, "model": self.model, "report": self.report, **self.metrics}
