"""Draw the cumulative explained variance of principal components and of discriminants."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import GREY, LINE_STYLES, STYLE

WIDTH, HEIGHT = 6.4, 4.2
MARKED_SHARE = 0.95


def components_for(cumulative: NDArray[np.float64], share: float) -> int | None:
    """Return the smallest number of components that explain a share of the variance.

    Args:
        cumulative: (S,) float64, ascending; the share of the first 1, 2, ... components.
        share: the share to reach, in 0..1.

    Returns:
        The number of components, or None where all of them do not reach the share.

    >>> components_for(np.array([0.5, 0.85, 0.96]), 0.9)
    3
    """
    count = 1 + int(np.searchsorted(cumulative, share))
    return count if count <= len(cumulative) else None


def variance_chart(curves: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Draw the cumulative explained variance of several methods as one PNG image.

    The chart marks the number of components of each method that explain 95 per cent.

    Args:
        curves: (S,) float64, ascending, by the name of the method; the share of the first 1, 2, ...
            components.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.axhline(MARKED_SHARE, color=GREY, linewidth=1, linestyle=":")
        for (name, cumulative), (colour, dashes) in zip(
            curves.items(), cycle(LINE_STYLES), strict=False
        ):
            count = components_for(cumulative, MARKED_SHARE)
            label = name if count is None else f"{name}, {MARKED_SHARE:.0%}: {count:,} components"
            ranks = np.arange(1, len(cumulative) + 1)
            axes.plot(ranks, cumulative, color=colour, linestyle=dashes, label=label)
            if count is not None:
                axes.plot(count, cumulative[count - 1], "o", color=colour, markersize=6)
        axes.legend(loc="lower right")
        axes.set(xlabel="Components", ylabel="Share of the variance", xscale="log", ylim=(0, 1.02))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(which="both", length=0)
        return to_png(figure)
