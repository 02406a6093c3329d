"""Define the metrics that jobs export: the one table of their names, units and labels."""

from dataclasses import dataclass
from typing import Literal

RAY_PREFIX = "ray_"
"""Characters that Ray puts before the names of all metrics."""


@dataclass(frozen=True)
class MetricDefinition:
    """Define a metric.

    Attributes:
        name: name without the prefix of Ray. It ends with the unit where there is one.
        kind: `gauge` for a value that rises and falls, `counter` for a sum.
        meaning: description.
        labels: labels beside `output`, which all metrics have.
    """

    name: str
    kind: Literal["gauge", "counter"]
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def exported_name(self) -> str:
        """Return the name that Prometheus reads."""
        return f"{RAY_PREFIX}{self.name}"


TRAINING_IMAGES = MetricDefinition(
    "reidray_training_images_total", "counter", "training images that the network has seen"
)
TRAINING_SPEED = MetricDefinition(
    "reidray_training_images_per_second", "gauge", "training images per second in this epoch"
)
TRAINING_INPUT_WAIT = MetricDefinition(
    "reidray_training_input_wait_ratio",
    "gauge",
    "share of the time of this epoch in which the network waited for images",
)
TRAINING_LOSS = MetricDefinition("reidray_training_loss", "gauge", "mean loss of this epoch so far")
TRAINING_EPOCH = MetricDefinition(
    "reidray_training_epoch", "gauge", "number of the epoch, counted from 1"
)
TRAINING_VALIDATION = MetricDefinition(
    "reidray_training_validation_ratio",
    "gauge",
    "metric of the last validation, such as `mean_ap` and `rank1`",
    ("metric",),
)

NIGHTLY_IMAGES = MetricDefinition(
    "reidray_nightly_images", "gauge", "images that the run found", ("role",)
)
NIGHTLY_NEW = MetricDefinition(
    "reidray_nightly_new_images", "gauge", "images that the run before did not have", ("role",)
)
NIGHTLY_CHANGED = MetricDefinition(
    "reidray_nightly_changed_images",
    "gauge",
    "images whose content is another than in the run before",
    ("role",),
)
NIGHTLY_GONE = MetricDefinition(
    "reidray_nightly_gone_images", "gauge", "images that only the run before had", ("role",)
)
NIGHTLY_EMBEDDED = MetricDefinition(
    "reidray_nightly_embedded_images", "gauge", "images that the run embedded"
)
NIGHTLY_QUARANTINED = MetricDefinition(
    "reidray_nightly_quarantined_images", "gauge", "images that do not decode"
)
NIGHTLY_DISTRACTORS = MetricDefinition(
    "reidray_nightly_distractor_images", "gauge", "gallery images left out as distractors"
)
NIGHTLY_SPEED = MetricDefinition(
    "reidray_nightly_images_per_second", "gauge", "images per second of the embedding"
)
NIGHTLY_STAGE = MetricDefinition(
    "reidray_nightly_stage_seconds", "gauge", "duration of a stage of the run", ("stage",)
)
NIGHTLY_END = MetricDefinition(
    "reidray_nightly_end_timestamp_seconds",
    "gauge",
    "seconds since 1970 at which the run ended; `outcome` is `succeeded` or `failed`",
    ("outcome",),
)

DEFINITIONS = (
    TRAINING_IMAGES,
    TRAINING_SPEED,
    TRAINING_INPUT_WAIT,
    TRAINING_LOSS,
    TRAINING_EPOCH,
    TRAINING_VALIDATION,
    NIGHTLY_IMAGES,
    NIGHTLY_NEW,
    NIGHTLY_CHANGED,
    NIGHTLY_GONE,
    NIGHTLY_EMBEDDED,
    NIGHTLY_QUARANTINED,
    NIGHTLY_DISTRACTORS,
    NIGHTLY_SPEED,
    NIGHTLY_STAGE,
    NIGHTLY_END,
)
"""All metrics."""
