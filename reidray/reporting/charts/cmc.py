"""Draw cumulative match characteristic (CMC) curves of one ranking or of several methods."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import floor
from textwrap import fill

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import BLUE, GREY, LINE_STYLES, MAX_MARKERS, STYLE, add_legend

WIDTH, HEIGHT = 6.4, 4.2
COMPARISON_HEIGHT = 4.6
LABELLED_RANKS = (1, 5, 10)
SUMMARY_COLUMNS = 84
TICK_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
MAX_TICKS = 10


def cmc_chart(curve: Sequence[float], summary: str) -> bytes:
    """Draw the CMC curve of one ranking as a PNG image.

    Args:
        curve: the share of queries with a match among the first n gallery images, in 0..1, for
            n = 1, 2, ...; one value or more.
        summary: the rules of the ranking, drawn below the title.
    """
    ranks = range(1, len(curve) + 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.suptitle("Cumulative match curve", x=0.01, ha="left", fontsize=13)
        axes = figure.subplots()
        axes.set_title(fill(summary, SUMMARY_COLUMNS), loc="left", fontsize=8, color=GREY)
        axes.plot(ranks, curve, color=BLUE, marker="o" if len(curve) <= MAX_MARKERS else "")
        for rank in LABELLED_RANKS:
            if rank <= len(curve):
                share = curve[rank - 1]
                label = f"rank {rank}: {share:.1%}"
                axes.plot(rank, share, "o", color=BLUE, markersize=6, label=label)
        axes.legend(loc="best", markerscale=0, handlelength=0)
        axes.set(
            xlabel="Rank",
            ylabel="Queries with a match up to this rank",
            xticks=_rank_ticks(len(curve)),
            ylim=_share_limits(curve),
        )
        axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(length=0)
        return to_png(figure)


def cmc_comparison_chart(curves: Mapping[str, Sequence[float]]) -> bytes:
    """Draw the CMC curves of several methods as one PNG image, over the logarithm of the rank.

    The first ranks differ most, so they get most of the width.

    Args:
        curves: curve of each method, as in `cmc_chart`, by its name.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, COMPARISON_HEIGHT), layout="constrained")
        axes = figure.subplots()
        for (name, curve), (colour, dashes) in zip(
            curves.items(), cycle(LINE_STYLES), strict=False
        ):
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                color=colour,
                linestyle=dashes,
                marker="o" if len(curve) <= MAX_MARKERS else "",
                label=name,
            )
        axes.set(
            xlabel="Rank",
            ylabel="Queries with a match up to this rank",
            xscale="log",
            ylim=(0, 1.02),
        )
        longest = max(map(len, curves.values()))
        axes.set_xticks(_log_ticks(longest), minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(length=0)
        add_legend(figure)
        return to_png(figure)


def _rank_ticks(ranks: int) -> list[int]:
    """Return the ticks of the rank axis: rank 1 and round numbers."""
    step = next((step for step in TICK_STEPS if ranks / step <= MAX_TICKS), ranks)
    return [1, *range(max(step, 2), ranks + 1, step)]


def _log_ticks(ranks: int) -> list[int]:
    """Return the ticks of a logarithmic rank axis: 1, 2, 5, 10, ... and the last rank.

    A round number near the last rank is left out, because their labels would overlap.
    """
    powers = range(len(str(ranks)))
    ticks = [digit * 10**power for power in powers for digit in (1, 2, 5)]
    return [*(tick for tick in ticks if tick < 0.8 * ranks), ranks]


def _share_limits(curve: Sequence[float]) -> tuple[float, float]:
    """Return the limits of the share axis, so that the rise of the curve fills the chart.

    The lower limit is the tenth below the first value of the curve.
    """
    lowest = max(floor(10 * curve[0] - 0.5) / 10, 0.0)
    return lowest, 1 + (1 - lowest) / 50
