"""The page of a training run: one HTML file that needs nothing else."""

from pathlib import Path
from typing import Any

import yaml

from reidray.reporting.charts.learning_curves import attribute_bars, learning_curves
from reidray.reporting.rendering import render
from reidray.reporting.run_summary import (
    FEW_QUERIES,
    DataSummary,
    describe_epoch,
    describe_epochs,
    headlines,
    small_group_note,
    weak_attributes,
)
from reidray.storage.staging import atomic_write


def write_run_report(
    path: Path,
    *,
    config: dict[str, Any],
    records: list[dict[str, Any]],
    best_epoch: int,
    data: DataSummary,
) -> None:
    """Write the page of a training run.

    Args:
        path: the HTML file; its folder exists. It appears whole or not at all.
        config: the whole configuration.
        records: rows of metrics.jsonl, one for each epoch.
        best_epoch: epoch whose weights were kept; its record holds a validation.
        data: what the run was trained on.

    Raises:
        ValueError: no record is of the best epoch.
    """
    by_epoch = {record["epoch"]: record for record in records}
    if best_epoch not in by_epoch:
        raise ValueError(f"no record is of the best epoch, {best_epoch}: there are {[*by_epoch]}")
    best = by_epoch[best_epoch]
    attributes = best.get("attributes", {})
    page = render(
        "report.html",
        name=Path(str(config.get("output", ""))).name or "run",
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        data=data,
        best_epoch=describe_epoch(best_epoch, config["epochs"], best),
        best=best,
        headlines=headlines(best),
        groups=best.get("groups", []),
        few_queries=FEW_QUERIES,
        small_group_note=small_group_note(best.get("groups", [])),
        attributes=attributes,
        weak_attributes=weak_attributes(best),
        attribute_chart=attribute_bars(attributes) if attributes else None,
        curves=learning_curves(records, best_epoch),
        epochs=describe_epochs(config["epochs"], records),
        seconds=sum(row["seconds"] + row.get("validation_seconds", 0.0) for row in records),
    )
    atomic_write(path, page)
