"""Export the progress of a training that runs on Ray as metrics."""

from reidray.monitoring.metric_definitions import (
    TRAINING_EPOCH,
    TRAINING_IMAGES,
    TRAINING_INPUT_WAIT,
    TRAINING_LOSS,
    TRAINING_SPEED,
    TRAINING_VALIDATION,
)
from reidray.monitoring.metrics_exporter import MetricsExporter
from reidray.training.runs.run_logger import Event
from reidray.training.steps.epoch_progress import StepProgress

VALIDATION_METRICS = ("mean_ap", "rank1", "attribute_accuracy", "accuracy", "mask_iou")
"""Metrics of a validation that are exported, where the task has them."""


class TrainingMetrics:
    """Export the events of a training, which the driver receives about once a second.

    Args:
        exporter: exports the values.
    """

    def __init__(self, exporter: MetricsExporter) -> None:
        self._exporter = exporter
        self._counted_images = 0

    def receive(self, event: Event) -> None:
        """Export what an event says."""
        if isinstance(event, StepProgress):
            self._export_progress(event)
        elif isinstance(event, list):  # the training starts, or starts again after a failure
            self._counted_images = 0
        elif isinstance(event, dict):  # the record of an epoch
            self._counted_images = 0
            for name in VALIDATION_METRICS:
                if name in event:
                    self._exporter.set(TRAINING_VALIDATION, event[name], metric=name)

    def _export_progress(self, step: StepProgress) -> None:
        self._exporter.set(TRAINING_EPOCH, step.epoch)
        self._exporter.set(TRAINING_LOSS, step.loss)
        self._exporter.set(TRAINING_SPEED, step.images_per_second)
        self._exporter.set(TRAINING_INPUT_WAIT, step.input_wait)
        self._exporter.add(TRAINING_IMAGES, step.images - self._counted_images)
        self._counted_images = step.images
