"""Draw metrics of trainings over their epochs, and the accuracy of attributes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reidray.reporting.charts.encoding import Chart, to_svg
from reidray.reporting.charts.style import (
    BLUE,
    GREY,
    HEIGHT,
    LINE_STYLES,
    MAX_MARKERS,
    STYLE,
    WIDTH,
    add_legend,
)

PANELS, PANEL_COLUMNS = 12, 3
"""Attributes in a chart, and in each row of it."""

PANEL_HEIGHT = 0.95
"""Height of an attribute's panel in inches."""

PANEL_MARGIN = 0.4
"""Height of the axis below the panels in inches."""

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class _CurveSpec:
    """Describe a chart of metrics over epochs.

    Attributes:
        title: the caption.
        y_label: the label of the vertical axis.
        lines: the label of each line by the key of its metric in the records.
        is_share: whether the metrics lie in 0..1 and are shown in per cent.
    """

    title: str
    y_label: str
    lines: dict[str, str]
    is_share: bool = False


_CURVES = (
    _CurveSpec(
        "Accuracy in training",
        "Accuracy, mean of the epoch",
        {"training_accuracy": "accuracy"},
        True,
    ),
    _CurveSpec(
        "Ranking of validation people", "mAP, Rank-1", {"mean_ap": "mAP", "rank1": "Rank-1"}, True
    ),
    _CurveSpec(
        "Attributes of validation people",
        "Accuracy",
        {"attribute_accuracy": "this model", "attribute_majority": "majority guess"},
        True,
    ),
    _CurveSpec(
        "Classes of validation images",
        "Accuracy, F1",
        {"accuracy": "accuracy", "macro_f1": "F1, macro"},
        True,
    ),
    _CurveSpec(
        "Masks of validation images",
        "Accuracy, F1, IoU",
        {"mask_accuracy": "pixels", "mask_f1": "F1", "mask_iou": "IoU"},
        True,
    ),
    _CurveSpec("Learning rate", "Rate at the end of the epoch", {"learning_rate": "learning rate"}),
    _CurveSpec("Training speed", "Images per second", {"images_per_second": "speed"}),
    _CurveSpec(
        "Time spent waiting for input", "Share of the epoch", {"input_wait": "waiting"}, True
    ),
)


COMPARED_METRICS = {
    "loss": "Loss in training",
    "validation_loss": "Loss on validation images",
    "accuracy": "Accuracy on validation images",
    "mask_iou": "IoU of the masks of validation images",
}
"""Title of the chart of each metric in which several trainings are compared."""

COMPARED_SHARES = ("accuracy", "mask_iou")
"""Metrics in 0..1 among them, which are shown in per cent."""


def learning_curves(records: Records, best_epoch: int) -> list[Chart]:
    """Draw losses, validation metrics, learning rate, speed and input waiting time over epochs.

    Args:
        records: the metrics of each epoch, in order.
        best_epoch: the epoch that each chart marks.

    Returns:
        The charts for which a record holds a metric.
    """
    keys = dict.fromkeys(key for record in records for key in record)
    in_training, in_validation = (_loss_lines(keys, name) for name in ("loss", "validation_loss"))
    of_one_kind = len(in_validation) == 1 and "validation_loss" not in in_validation
    validation_label = f"Loss, {next(iter(in_validation.values()))}" if of_one_kind else "Loss"
    specs = (
        _CurveSpec("Loss in training", "Loss, mean of the epoch", in_training),
        _CurveSpec("Loss on validation images", validation_label, in_validation),
        *_CURVES,
    )
    return [_draw_curves(spec, records, best_epoch) for spec in specs if spec.lines.keys() & keys]


def attribute_curves(records: Records, best_epoch: int) -> list[Chart]:
    """Draw the validation accuracy of each attribute over epochs, in a panel of its own.

    A grey line marks the majority guess. The panels fill several charts, so that those of many
    attributes stay legible on narrow and wide pages.

    Args:
        records: the metrics of each epoch, in order.
        best_epoch: the epoch that each panel marks.
    """
    measured = [record for record in records if record.get("attributes")]
    names = list(dict.fromkeys(name for record in measured for name in record["attributes"]))
    charts = []
    for start in range(0, len(names), PANELS):
        shown = names[start : start + PANELS]
        part = f", {start + 1} to {start + len(shown)} of {len(names)}"
        title = f"Accuracy of each attribute{part if len(names) > PANELS else ''}"
        rows = -(-len(shown) // PANEL_COLUMNS)
        with rc_context(STYLE | {"font.size": 8}):
            height = PANEL_MARGIN + PANEL_HEIGHT * rows
            figure = Figure(figsize=(WIDTH, height))
            figure.subplots_adjust(  # a constrained layout of so many panels takes seconds
                left=0.1,
                right=0.99,
                bottom=PANEL_MARGIN / height,
                top=1 - 0.2 / height,
                wspace=0.08,
                hspace=0.5,
            )
            grid = figure.subplots(rows, PANEL_COLUMNS, sharex=True, sharey=True, squeeze=False)
            for axes in grid.ravel()[len(shown) :]:
                axes.set_visible(False)
            for axes, name in zip(grid.ravel(), shown, strict=False):
                _draw_attribute(axes, name, measured, best_epoch)
            figure.supxlabel("Epoch", fontsize=8, color=GREY, y=0.03 / height, va="bottom")
            charts.append(to_svg(title, figure, f"attribute-curves-{start}"))
    return charts


def run_comparison_charts(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Chart]:
    """Draw a chart of each metric that a training has, with a line for each training.

    Args:
        runs: the metrics of each epoch of a training, in order, by the training's name.
    """
    charts = []
    for metric, title in COMPARED_METRICS.items():
        lines = {
            name: [(row["epoch"], row[metric]) for row in rows if metric in row]
            for name, rows in runs.items()
        }
        if any(lines.values()):
            charts.append(_draw_runs(metric, title, lines))
    return charts


def attribute_bars(attributes: dict[str, dict[str, float]]) -> Chart:
    """Draw the accuracy of each attribute as a bar, with a tick at the majority guess.

    Args:
        attributes: `accuracy` and `majority` of each attribute, in 0..1, by its name.
    """
    names = list(attributes)
    accuracy = [attributes[name]["accuracy"] for name in names]
    majority = [attributes[name]["majority"] for name in names]
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        model = axes.barh(names, accuracy, height=0.6, color=BLUE)
        guess = axes.scatter(majority, names, marker="|", s=150, linewidths=2.5, color="black")
        axes.set(xlim=(0, 1), xlabel="Accuracy")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        figure.legend(
            handles=[model, guess],
            labels=["this model", "majority guess"],
            loc="outside upper left",
            ncols=2,
        )
        return to_svg("Accuracy of each attribute", figure, "attributes")


def _loss_lines(keys: Iterable[str], name: str) -> dict[str, str]:
    """Return the label of the sum of some losses and of each of them, or of the only one."""
    terms = {
        key: key.removeprefix(f"{name}_").replace("_", " ")
        for key in keys
        if key.startswith(f"{name}_")
    }
    return terms if len(terms) == 1 else {name: "sum", **terms}


def _draw_attribute(axes: Axes, name: str, records: Records, best_epoch: int) -> None:
    """Draw the accuracy of an attribute over epochs, beside that of the majority guess."""
    known = [record for record in records if name in record["attributes"]]
    epochs = [record["epoch"] for record in known]
    axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    for key, colour, width in (("majority", GREY, 1.0), ("accuracy", BLUE, 1.6)):
        values = [record["attributes"][name][key] for record in known]
        marker = "o" if len(known) == 1 else ""
        axes.plot(epochs, values, color=colour, linewidth=width, marker=marker, markersize=3)
    axes.set_title(name.replace("_", " "), loc="left", fontsize=8)
    axes.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(length=0)


def _draw_curves(spec: _CurveSpec, records: Records, best_epoch: int) -> Chart:
    """Draw metrics over epochs on an axis that begins at 0."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        for (key, label), (colour, dashes) in zip(
            spec.lines.items(), cycle(LINE_STYLES), strict=False
        ):
            measured = [record for record in records if key in record]
            axes.plot(
                [record["epoch"] for record in measured],
                [record[key] for record in measured],
                color=colour,
                linestyle=dashes,
                marker="o" if len(measured) <= MAX_MARKERS else "",
                label=label,
            )
        axes.update_datalim([(best_epoch, 0)])  # keeps a flat curve off the upper edge
        axes.set(xlabel="Epoch", ylabel=spec.y_label, ylim=(0, 1.02 if spec.is_share else None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if spec.is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(length=0)
        if len(spec.lines) > 1:
            add_legend(figure)
        return to_svg(spec.title, figure, next(iter(spec.lines)))


def _draw_runs(metric: str, title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> Chart:
    """Draw a metric over the epochs; a training that lacks it has no line."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for (name, points), (colour, dashes) in zip(
            lines.items(), cycle(LINE_STYLES), strict=False
        ):
            if points:
                epochs, values = zip(*points, strict=True)
                marker = "o" if len(points) <= MAX_MARKERS else ""
                axes.plot(epochs, values, color=colour, linestyle=dashes, marker=marker, label=name)
        axes.update_datalim([(1, 0)])  # keeps flat curves off the upper edge
        is_share = metric in COMPARED_SHARES
        axes.set(xlabel="Epoch", ylim=(0, 1.02 if is_share else None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(length=0)
        add_legend(figure)
        return to_svg(title, figure, f"runs-{metric}")
