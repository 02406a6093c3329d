"""The cumulative match curve of one ranking, as a picture of its own."""

from collections.abc import Sequence
from io import BytesIO
from math import floor
from textwrap import fill

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reidray.reporting.charts.learning_curves import BLUE, FEW_POINTS, GREY, LOOK

WIDTH, HEIGHT, DPI = 6.4, 4.2, 160
LABELLED_RANKS = (1, 5, 10)
SUMMARY_LETTERS = 84
TICK_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
MOST_TICKS = 10


def cmc_chart(curve: Sequence[float], summary: str) -> bytes:
    """The curve as a PNG picture.

    Args:
        curve: one share in 0..1 or more; the n-th is that of the queries with a match among the
            best n.
        summary: stands under the title and says under which rules the curve was made.
    """
    ranks = range(1, len(curve) + 1)
    with rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.suptitle("Cumulative match curve", x=0.01, ha="left", fontsize=13)
        axes = figure.subplots()
        axes.set_title(fill(summary, SUMMARY_LETTERS), loc="left", fontsize=8, color=GREY)
        axes.plot(ranks, curve, color=BLUE, marker="o" if len(curve) <= FEW_POINTS else "")
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
        written = BytesIO()
        figure.savefig(written, format="png", dpi=DPI, metadata={"Software": None})
    return written.getvalue()


def _rank_ticks(ranks: int) -> list[int]:
    """Rank 1 and round ranks after it."""
    step = next((step for step in TICK_STEPS if ranks / step <= MOST_TICKS), ranks)
    return [1, *range(max(step, 2), ranks + 1, step)]


def _share_limits(curve: Sequence[float]) -> tuple[float, float]:
    """From the tenth below the curve's beginning, so that its rise fills the picture."""
    lowest = max(floor(10 * curve[0] - 0.5) / 10, 0.0)
    return lowest, 1 + (1 - lowest) / 50
