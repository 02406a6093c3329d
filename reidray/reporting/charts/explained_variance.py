"""How much of the variance the first components hold, as a picture of its own."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import as_png
from reidray.reporting.charts.learning_curves import BLUE, GREY, LOOK

WIDTH, HEIGHT = 6.4, 4.2
MARKED_SHARES = (0.9, 0.95, 0.99)


def components_for(cumulative: NDArray[np.float64], share: float) -> int | None:
    """How many components reach a share of the variance; None where all together do not.

    Args:
        cumulative: (S,) float64, rising; the n-th value is the share of the first n components.
        share: in 0..1.
    """
    count = 1 + int(np.searchsorted(cumulative, share))
    return count if count <= len(cumulative) else None


def variance_chart(cumulative: NDArray[np.float64]) -> bytes:
    """The cumulative explained variance as a PNG picture.

    It marks how many components reach 90, 95 and 99 per cent, as far as they do.

    Args:
        cumulative: (S,) float64, rising; the n-th value is the share of the first n components.
    """
    with rc_context(LOOK):
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
        return as_png(figure)
