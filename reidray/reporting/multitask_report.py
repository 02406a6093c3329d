"""The page and the model card of a network that says several things of an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reidray.metrics.classification import ClassificationMetrics
from reidray.reporting.charts.confusion_matrix import confusion_chart
from reidray.reporting.charts.learning_curves import learning_curves
from reidray.reporting.rendering import duration, percent, render
from reidray.reporting.run_summary import describe_epoch, describe_epochs
from reidray.storage.staging import atomic_write


@dataclass(frozen=True)
class SplitMetrics:
    """How good a network is on a part of the images.

    Attributes:
        images: how many there are.
        seconds: that the network took for them.
        summary: a figure each.
        labels: figures of each label by its name; a class is called `class`.
    """

    images: int
    seconds: float
    summary: dict[str, Any]
    labels: dict[str, ClassificationMetrics]


@dataclass(frozen=True)
class MultitaskSummary:
    """What came of a training.

    Attributes:
        root: folder or URI of the images.
        layout: which layout read them.
        records: rows of metrics.jsonl, one for each epoch.
        best_epoch: the one whose weights were kept.
        training_seconds: spent in training and validation.
        parts: training, validation and, where there is one, test.
        bad_images: images that were set aside, one line each.
        notes: findings that were counted and gone on with, one line each.
    """

    root: str
    layout: str
    records: list[dict[str, Any]]
    best_epoch: int
    training_seconds: float
    parts: dict[str, SplitMetrics]
    bad_images: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def judged_on(self) -> str:
        """The part that no choice was made by, as far as there is one."""
        return "test" if "test" in self.parts else "validation"


_ROWS = (
    ("accuracy", "Accuracy", "images whose class is named rightly"),
    ("macro_f1", "F1, macro", "of the classes, mean over the classes"),
    ("weighted_f1", "F1, weighted", "of the classes, mean over the images"),
    ("mask_f1", "Mask F1", "over all pixels of all images"),
    ("mask_iou", "Mask IoU", "drawn and there, as a share of drawn or there, over all pixels"),
    ("image_iou", "Mask IoU, image", "mean over the images"),
    ("attribute_accuracy", "Attribute accuracy", "mean over the attributes"),
    ("attribute_majority", "Majority guess", "accuracy of always naming the commonest value"),
)


def write_multitask_report(
    path: Path,
    *,
    config: dict[str, Any],
    findings: MultitaskSummary,
) -> None:
    """Write the page of a training; it appears whole or not at all.

    Args:
        path: the HTML file; its folder exists.
        config: the whole configuration.
        findings: what came of it.
    """
    page = render(
        "multitask.html",
        name=Path(str(config.get("output", ""))).name or "run",
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        seconds=findings.training_seconds,
        epochs=describe_epochs(config["epochs"], findings.records),
        has_test="test" in findings.parts,
        curves=learning_curves(findings.records, findings.best_epoch),
        **_shown(config, findings, charts=True),
    )
    atomic_write(path, page)


def render_multitask_card(config: dict[str, Any], findings: MultitaskSummary) -> str:
    """Say what a model is for, how good it is and how it was made, as a page of Markdown.

    Args:
        config: the whole configuration, as `TrainMultitaskConfig` names it.
        findings: what came of it.
    """
    return render(
        "render_multitask_card.md",
        config=config,
        judged=findings.parts[findings.judged_on].summary,
        training=duration(findings.training_seconds),
        **_shown(config, findings, charts=False),
    )


def _shown(config: dict[str, Any], findings: MultitaskSummary, *, charts: bool) -> dict[str, Any]:
    """What page and card both show."""
    parts = findings.parts
    return {
        "data": findings,
        "best_epoch": describe_epoch(
            findings.best_epoch, config["epochs"], findings.records[findings.best_epoch - 1]
        ),
        "judged_on": findings.judged_on,
        "parts": [
            {"name": name, "images": part.images, "inference": f"{part.seconds:.2f} s"}
            for name, part in parts.items()
        ],
        "rows": [
            {
                "name": name,
                "meaning": meaning,
                "cells": [
                    percent(part.summary[key]) if key in part.summary else ""
                    for part in parts.values()
                ],
            }
            for key, name, meaning in _ROWS
            if any(key in part.summary for part in parts.values())
        ],
        "labels": [
            _label(name, findings, charts=charts) for name in parts[findings.judged_on].labels
        ],
    }


def _label(name: str, findings: MultitaskSummary, *, charts: bool) -> dict[str, Any]:
    """A label's values with their figures, and its confusion in training and where it counts."""
    figures = findings.parts[findings.judged_on].labels[name]
    columns = {"precision": figures.precision, "recall": figures.recall, "f1": figures.f1}
    shown = ("training", findings.judged_on)
    return {
        "heading": name.replace("_", " ").capitalize(),
        "title": "Classes" if name == "class" else name.replace("_", " ").capitalize(),
        "lines": [
            {
                "name": value,
                "support": int(figures.support[index]),
                **{key: float(column[index]) for key, column in columns.items()},
            }
            for index, value in enumerate(figures.classes)
        ],
        "macro": figures.macro,
        "weighted": figures.weighted,
        "charts": [
            confusion_chart(
                part.labels[name].confusion,
                figures.classes,
                f"{where.capitalize()} images",
                f"{name}-{where}",
            )
            for where, part in findings.parts.items()
            if charts and where in shown and name in part.labels
        ],
    }
