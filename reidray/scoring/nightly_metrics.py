"""Export the results of a nightly run on a cluster as metrics."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reidray.inference.runs.embedding_engine import RayConnection
from reidray.monitoring.metric_definitions import (
    NIGHTLY_CHANGED,
    NIGHTLY_DISTRACTORS,
    NIGHTLY_EMBEDDED,
    NIGHTLY_END,
    NIGHTLY_GONE,
    NIGHTLY_IMAGES,
    NIGHTLY_NEW,
    NIGHTLY_QUARANTINED,
    NIGHTLY_SPEED,
    NIGHTLY_STAGE,
)

TOTALS = {
    "embedded": NIGHTLY_EMBEDDED,
    "quarantined": NIGHTLY_QUARANTINED,
    "images_per_second": NIGHTLY_SPEED,
}
CHANGES = {"new": NIGHTLY_NEW, "changed": NIGHTLY_CHANGED, "gone": NIGHTLY_GONE}
"""Metrics by their keys in the summary of a run."""


def export_success(connection: RayConnection, output: str, summary: Mapping[str, Any]) -> None:
    """Export the summary of a run that has published its files.

    Args:
        connection: connection to Ray. Without a cluster that goes on, nothing is exported.
        output: output of the run.
        summary: contents of `scoring.json`.
    """
    if not connection.joins_cluster:
        return
    from reidray.monitoring.metrics_exporter import MetricsExporter  # imports Ray

    exporter = MetricsExporter(output)
    for role in ("queries", "gallery"):
        exporter.set(NIGHTLY_IMAGES, summary[role], role=role)
    for role, changes in summary.get("since_last_run", {}).items():
        for key, metric in CHANGES.items():
            exporter.set(metric, changes[key], role=role)
    for key, metric in TOTALS.items():
        if key in summary:
            exporter.set(metric, summary[key])
    if summary["max_distractor_score"] is not None:
        exporter.set(NIGHTLY_DISTRACTORS, summary["distractors_left_out"])
    for stage, seconds in summary["stages"].items():
        exporter.set(NIGHTLY_STAGE, seconds, stage=stage)
    exporter.set(NIGHTLY_END, time.time(), outcome="succeeded")


@contextmanager
def exporting_failure(connection: RayConnection, output: str) -> Iterator[None]:
    """Export the end of a run whose block raises, if it is connected to a cluster that goes on."""
    try:
        yield
    except Exception:
        if connection.joins_cluster:
            from reidray.monitoring.metrics_exporter import MetricsExporter  # imports Ray

            MetricsExporter(output).set(NIGHTLY_END, time.time(), outcome="failed")
        raise
