"""Render the report of a training run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reidray.reporting.dataset_figures.figures import DatasetFigures
from reidray.reporting.rendering import render
from reidray.reporting.run_summary import (
    FEW_QUERIES,
    DataSummary,
    describe_epoch,
    describe_epochs,
    group_rows,
    headlines,
    small_group_note,
    weak_attributes,
)
from reidray.storage.staging import atomic_write

if TYPE_CHECKING:
    from reidray.models.weights import WeightReport


def write_run_report(
    path: Path,
    *,
    config: dict[str, Any],
    records: list[dict[str, Any]],
    best_epoch: int,
    data: DataSummary,
    figures: DatasetFigures,
    first_weights: "WeightReport | None" = None,
) -> None:
    """Write the report of a training run as one HTML file that needs no other file.

    Args:
        path: the HTML file. Its folder exists. The file is written atomically.
        config: the configuration of the run.
        records: the rows of metrics.jsonl, one per epoch.
        best_epoch: the epoch of the model's weights. Its record holds validation metrics.
        data: the images of the run.
        figures: counts and pictures of the images.
        first_weights: what became of the weights that the network started from; None where they
            were random.

    Raises:
        ValueError: there is no record of the best epoch.
    """
    # Imports Matplotlib.
    from reidray.reporting.charts.learning_curves import (
        attribute_bars,
        attribute_curves,
        learning_curves,
    )

    by_epoch = {record["epoch"]: record for record in records}
    if best_epoch not in by_epoch:
        raise ValueError(f"`records` has no best epoch {best_epoch}: it has {[*by_epoch]}")
    best = by_epoch[best_epoch]
    attributes = best.get("attributes", {})
    page = render(
        "reid_run.html",
        name=Path(str(config.get("output", ""))).name or "run",
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        data=data,
        best_epoch=describe_epoch(best_epoch, config["epochs"], best),
        best=best,
        headlines=headlines(best),
        groups=group_rows(best),
        few_queries=FEW_QUERIES,
        small_group_note=small_group_note(group_rows(best)),
        attributes=attributes,
        weak_attributes=weak_attributes(best),
        attribute_chart=attribute_bars(attributes) if attributes else None,
        figures=figures,
        curves=learning_curves(records, best_epoch),
        attribute_curves=attribute_curves(records, best_epoch),
        first_weights=first_weights,
        epochs=describe_epochs(config["epochs"], records),
        seconds=sum(row["seconds"] + row.get("validation_seconds", 0.0) for row in records),
    )
    atomic_write(path, page)
