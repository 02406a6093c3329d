"""Draw the metrics of each person by two methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import BLUE, GREY, LIGHT_GREY, STYLE

PANEL_SIZE = 4.0
DOT_AREA = 14
"""Area in square points of the dot of one person."""


@dataclass(frozen=True, eq=False)
class PersonPanel:
    """Hold a metric of each of P people by two methods.

    Attributes:
        title: the name of the metric.
        values: (2, P) float64, a row for each method.
        is_share: whether the values are shares in 0..1; otherwise they are ranks from 1.
    """

    title: str
    values: NDArray[np.float64]
    is_share: bool


def person_chart(names: Sequence[str], panels: Sequence[PersonPanel]) -> bytes:
    """Draw a dot for each person as one PNG image; the area of a dot counts people.

    Args:
        names: the names of the two methods; the first has the horizontal axis.
        panels: the metrics, side by side.
    """
    with rc_context(STYLE | {"axes.grid.axis": "both"}):
        figure = Figure(figsize=(PANEL_SIZE * len(panels), PANEL_SIZE), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            places, counts = np.unique(panel.values, axis=1, return_counts=True)
            axes.axline((1, 1), slope=1, color=LIGHT_GREY, linewidth=1, zorder=1)
            axes.scatter(*places, s=DOT_AREA * counts, color=BLUE, alpha=0.45, linewidths=0)
            axes.set_title(panel.title, loc="left", fontsize=10, color=GREY)
            axes.set(xlabel=names[0], ylabel=names[1])
            axes.set_box_aspect(1)
            axes.set_axisbelow(True)
            axes.tick_params(which="both", length=0)
            if panel.is_share:
                _set_share_axes(axes)
            else:
                _set_rank_axes(axes, panel.values.max())
        return to_png(figure)


def _set_share_axes(axes: Axes) -> None:
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _set_rank_axes(axes: Axes, largest: float) -> None:
    limits = (0.7, max(largest, 2) * 1.4)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_minor_formatter("")
