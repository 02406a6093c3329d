"""Draw the numbers of images of a data set: a histogram, and bars."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import Chart, to_svg
from reidray.reporting.charts.style import HEIGHT, LINE_STYLES, STYLE, WIDTH, add_legend

MAX_BINS = 30

COUNT_TICKS = 5
"""Most intervals of an axis of counts below a chart: more numbers of six digits would touch."""

BAR_HEIGHT = 0.24
"""Inches that a bar takes, with the space around it."""


def count_histogram(title: str, x_label: str, counts: Mapping[str, NDArray[np.int64]]) -> Chart:
    """Draw a histogram of the images of each person, or of each class, of several sets.

    Args:
        title: the caption.
        x_label: the label of the horizontal axis.
        counts: images of each person, (P,) int64, by the name of the set.
    """
    most = max(int(each.max()) for each in counts.values())
    width = -(-most // MAX_BINS)  # whole numbers of images, so that no bin is emptier than others
    edges = np.arange(0, most + width + 1, width) + 0.5
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for (name, each), (colour, dashes) in zip(counts.items(), cycle(LINE_STYLES), strict=False):
            heights, _ = np.histogram(each, edges)
            axes.stairs(heights, edges, color=colour, linestyle=dashes, linewidth=1.6, label=name)
            axes.stairs(heights, edges, color=colour, alpha=0.12, fill=True)
        axes.set(xlabel=x_label, ylabel="People", xlim=(0, None))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(length=0)
        add_legend(figure)
        return to_svg(title, figure, "histogram")


def count_bars(
    title: str, names: Sequence[str], counts: Mapping[str, Sequence[int]], prefix: str
) -> Chart:
    """Draw a bar for each class, or each camera, in which the sets follow each other.

    Args:
        title: the caption.
        names: the names of the C classes.
        counts: images of each class, C numbers, by the name of the set.
        prefix: a prefix of the ids in the chart; unique in the page.
    """
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(WIDTH, 0.9 + BAR_HEIGHT * len(names)), layout="constrained")
        axes = figure.subplots()
        places, left = np.arange(len(names)), np.zeros(len(names))
        for (name, each), (colour, _) in zip(counts.items(), cycle(LINE_STYLES), strict=False):
            axes.barh(
                places, each, left=left, height=0.7, color=colour, label=name, edgecolor="white"
            )
            left += np.asarray(each)
        axes.set_yticks(places, names)
        axes.set(xlabel="Images", ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(COUNT_TICKS, integer=True, min_n_ticks=1))
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        add_legend(figure)
        return to_svg(title, figure, prefix)
