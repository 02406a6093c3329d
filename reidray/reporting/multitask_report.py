"""Render the report and the model card of a network with several outputs per image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reidray.metrics.classification import ClassificationMetrics
from reidray.reporting.dataset_figures.figures import DatasetFigures
from reidray.reporting.dataset_figures.pictures import PictureSection
from reidray.reporting.rendering import duration, percent, render
from reidray.reporting.run_summary import describe_epoch, describe_epochs
from reidray.storage.staging import atomic_write

if TYPE_CHECKING:
    from reidray.models.weights import WeightReport
    from reidray.reporting.charts.encoding import Chart


@dataclass(frozen=True)
class SplitMetrics:
    """Hold the metrics of a network on one split of the images.

    Attributes:
        images: number of images.
        seconds: inference time.
        summary: the metrics of the whole split, by key.
        labels: the metrics of each label by its name; the class of an image is named `class`.
    """

    images: int
    seconds: float
    summary: dict[str, Any]
    labels: dict[str, ClassificationMetrics]


@dataclass(frozen=True)
class MultitaskSummary:
    """Summarise a training for its report and model card.

    Attributes:
        root: folder or URI of the images.
        layout: name of the layout.
        records: the rows of metrics.jsonl, one per epoch.
        best_epoch: the epoch of the model's weights.
        training_seconds: time spent in training and validation.
        parts: the metrics of the splits `training`, `validation` and, if there is one, `test`.
        bad_images: the images that did not decode, one line each.
        notes: irregularities in the data that did not stop the run, one line each.
        first_weights: what became of the weights that the network started from; None where they
            were random.
    """

    root: str
    layout: str
    records: list[dict[str, Any]]
    best_epoch: int
    training_seconds: float
    parts: dict[str, SplitMetrics]
    bad_images: tuple[str, ...]
    notes: tuple[str, ...]
    first_weights: "WeightReport | None" = None

    @property
    def evaluated_on(self) -> str:
        """Return the split of the reported metrics: `test`, else `validation`."""
        return "test" if "test" in self.parts else "validation"


_ROWS = (
    ("accuracy", "Accuracy", "images with the correct class"),
    ("macro_f1", "F1, macro", "F1 of the classes, mean over the classes"),
    ("weighted_f1", "F1, weighted", "F1 of the classes, mean over the images"),
    ("mask_accuracy", "Mask accuracy", "pixels that are correct, over all images"),
    ("mask_f1", "Mask F1", "over all pixels of all images"),
    ("mask_iou", "Mask IoU", "intersection over union, over all pixels of all images"),
    ("image_iou", "Mask IoU, image", "intersection over union, mean over the images"),
    ("attribute_accuracy", "Attribute accuracy", "mean over the attributes"),
    (
        "attribute_majority",
        "Majority guess",
        "accuracy of always predicting the most frequent value",
    ),
)


def write_multitask_report(
    path: Path,
    *,
    config: dict[str, Any],
    summary: MultitaskSummary,
    figures: DatasetFigures,
    mistakes: PictureSection | None = None,
) -> None:
    """Write the report of a training as one HTML file that needs no other file.

    Args:
        path: the HTML file. Its folder exists. The file is written atomically.
        config: the configuration of the run.
        summary: the results of the training.
        figures: counts and pictures of the images.
        mistakes: pictures of the most confident wrong predictions; None where the page shows none.
    """
    # Imports Matplotlib.
    from reidray.reporting.charts.learning_curves import attribute_curves, learning_curves

    page = render(
        "multitask_run.html",
        name=Path(str(config.get("output", ""))).name or "run",
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        seconds=summary.training_seconds,
        epochs=describe_epochs(config["epochs"], summary.records),
        has_test="test" in summary.parts,
        first_weights=summary.first_weights,
        figures=figures,
        mistakes=mistakes,
        curves=learning_curves(summary.records, summary.best_epoch),
        attribute_curves=attribute_curves(summary.records, summary.best_epoch),
        **_shared_values(config, summary, draw_charts=True),
    )
    atomic_write(path, page)


def render_multitask_card(config: dict[str, Any], summary: MultitaskSummary) -> str:
    """Render the model card as Markdown.

    Args:
        config: the configuration of the run, with the keys of `TrainMultitaskConfig`.
        summary: the results of the training.
    """
    return render(
        "multitask_card.md",
        config=config,
        metrics=summary.parts[summary.evaluated_on].summary,
        training=duration(summary.training_seconds),
        **_shared_values(config, summary, draw_charts=False),
    )


def _shared_values(
    config: dict[str, Any], summary: MultitaskSummary, *, draw_charts: bool
) -> dict[str, Any]:
    """Return the values that the report and the model card share."""
    parts = summary.parts
    best_record = summary.records[summary.best_epoch - 1]
    return {
        "data": summary,
        "best_epoch": describe_epoch(summary.best_epoch, config["epochs"], best_record),
        "evaluated_on": summary.evaluated_on,
        "parts": [
            {"name": name, "images": part.images, "inference": f"{part.seconds:.2f} s"}
            for name, part in parts.items()
        ],
        "rows": [
            {
                "name": name,
                "definition": definition,
                "cells": [
                    percent(part.summary[key]) if key in part.summary else ""
                    for part in parts.values()
                ],
            }
            for key, name, definition in _ROWS
            if any(key in part.summary for part in parts.values())
        ],
        "labels": [
            _label_values(name, summary, draw_charts=draw_charts)
            for name in parts[summary.evaluated_on].labels
        ],
    }


def _label_values(name: str, summary: MultitaskSummary, *, draw_charts: bool) -> dict[str, Any]:
    """Return the metrics of each value of a label, and its confusion matrices."""
    metrics = summary.parts[summary.evaluated_on].labels[name]
    columns = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}
    heading = name.replace("_", " ").capitalize()
    return {
        "heading": heading,
        "title": "Classes" if name == "class" else heading,
        "lines": [
            {
                "name": value,
                "support": int(metrics.support[index]),
                **{key: float(column[index]) for key, column in columns.items()},
            }
            for index, value in enumerate(metrics.classes)
        ],
        "macro": metrics.macro,
        "weighted": metrics.weighted,
        "charts": _confusion_charts(name, summary) if draw_charts else [],
    }


def _confusion_charts(name: str, summary: MultitaskSummary) -> "list[Chart]":
    """Draw the confusion matrix of a label on the training and on the evaluated split."""
    from reidray.reporting.charts.confusion_matrix import confusion_chart  # imports Matplotlib

    return [
        confusion_chart(
            part.labels[name].confusion,
            part.labels[name].classes,
            f"{split.capitalize()} images",
            f"{name}-{split}",
        )
        for split, part in summary.parts.items()
        if split in ("training", summary.evaluated_on) and name in part.labels
    ]
