"""Draw the cumulative explained variance of principal components."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import BLUE, GREY, STYLE

WIDTH, HEIGHT = 6.4, 4.2
MARKED_SHARES = (0.9, 0.95, 0.99)


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


def variance_chart(cumulative: NDArray[np.float64]) -> bytes:
    """Draw the cumulative explained variance as a PNG image.

    The chart marks the numbers of components that explain 90, 95 and 99 per cent.

    Args:
        cumulative: (S,) float64, ascending; the share of the first 1, 2, ... components.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.plot(np.arange(1, len(cumulative) + 1), cumulative, color=BLUE)
        for share in MARKED_SHARES:
            count = components_for(cumulative, share)
            if count is not None:
                axes.plot([count, count], [0, share], color=GREY, linewidth=1, linestyle=":")
                label = f"{share:.0%}: {count:,}"
                axes.plot(count, share, "o", color=BLUE, markersize=6, label=label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", markerscale=0, handlelength=0)
        axes.set(
            xlabel="Components",
            ylabel="Share of the variance of the pixels",
            xlim=(0, len(cumulative) + 1),
            ylim=(0, 1.02),
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(length=0)
        return to_png(figure)
