"""Pictures of a training run, as SVG that stands inside a page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import cycle
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

Records = Sequence[dict[str, Any]]

BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#00795a", "#9c4f80"
GREY, LIGHT_GREY = "#5b6470", "#c9ced6"
BLACK, OCHRE = "#1c2128", "#a67c00"
STYLES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (PURPLE, ":"),
    (BLACK, "-"),
    (OCHRE, "--"),
)
WIDTH, HEIGHT = 4.4, 2.9
FEW_POINTS = 25
LOOK: dict[Any, Any] = {
    "axes.edgecolor": LIGHT_GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#e8eaee",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "reidray",
    "text.color": "#1c2128",
    "text.parse_math": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        title: what it shows.
        svg: the picture itself, escaped and without references to anything outside.
        wide: it needs the whole width of the page.
    """

    title: str
    svg: Markup
    wide: bool = False


@dataclass(frozen=True)
class _Plot:
    """What a chart over epochs draws: by key of the records the name of its line."""

    title: str
    unit: str
    lines: dict[str, str]
    share: bool = False


_PLOTS = (
    _Plot(
        "Ranking of validation people", "mAP, Rank-1", {"mean_ap": "mAP", "rank1": "Rank-1"}, True
    ),
    _Plot(
        "Attributes of validation people",
        "Accuracy",
        {"attribute_accuracy": "this model", "attribute_majority": "majority guess"},
        True,
    ),
    _Plot("Loss on validation images", "Loss", {"validation_loss": "loss"}),
    _Plot(
        "Classes of validation images",
        "Accuracy, F1",
        {"accuracy": "accuracy", "macro_f1": "F1, macro"},
        True,
    ),
    _Plot("Masks of validation images", "F1, IoU", {"mask_f1": "F1", "mask_iou": "IoU"}, True),
    _Plot("Learning rate", "Rate at the end of the epoch", {"learning_rate": "learning rate"}),
    _Plot("Training speed", "Images per second", {"images_per_second": "speed"}),
    _Plot("Time spent waiting for input", "Share of the epoch", {"input_wait": "waiting"}, True),
)


def learning_curves(records: Records, best_epoch: int) -> list[Chart]:
    """Losses, validation figures, learning rate, images a second and time waiting for input.

    Args:
        records: one for each epoch, in order.
        best_epoch: marked in each chart.

    Returns:
        The charts, less those for which no record has a figure.
    """
    keys = dict.fromkeys(key for record in records for key in record)
    terms = {key: key.removeprefix("loss_") for key in keys if key.startswith("loss_")}
    losses = terms if len(terms) == 1 else {"loss": "sum", **terms}
    plots = (_Plot("Loss in training", "Loss, mean of the epoch", losses), *_PLOTS)
    return [_curves(plot, records, best_epoch) for plot in plots if plot.lines.keys() & keys]


def attribute_bars(attributes: dict[str, dict[str, float]]) -> Chart:
    """Accuracy of each attribute as a bar, with a tick where the majority guess stands.

    Args:
        attributes: by name `accuracy` and `majority`, shares in 0..1.
    """
    names = list(attributes)
    accuracy = [attributes[name]["accuracy"] for name in names]
    majority = [attributes[name]["majority"] for name in names]
    with rc_context(LOOK | {"axes.grid.axis": "x"}):
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
        return svg_chart("Accuracy of each attribute", figure, "attributes")


def _curves(plot: _Plot, records: Records, best_epoch: int) -> Chart:
    """Figures over epochs, from 0 upwards."""
    with rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        for (key, label), (colour, style) in zip(plot.lines.items(), cycle(STYLES), strict=False):
            having = [record for record in records if key in record]
            axes.plot(
                [record["epoch"] for record in having],
                [record[key] for record in having],
                color=colour,
                linestyle=style,
                marker="o" if len(having) <= FEW_POINTS else "",
                label=label,
            )
        axes.set(xlabel="Epoch", ylabel=plot.unit, ylim=(0, 1.02 if plot.share else None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if plot.share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(length=0)
        if len(plot.lines) > 1:
            figure.legend(loc="outside upper left", ncols=len(plot.lines), columnspacing=1.2)
        return svg_chart(plot.title, figure, next(iter(plot.lines)))


def svg_chart(title: str, figure: Figure, name: str, *, wide: bool = False) -> Chart:
    """The figure as an SVG element whose ids start with `name`, to be unique in the page."""
    written = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=nothing, transparent=True)
    element = written.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)
    return Chart(title, Markup(element), wide)
