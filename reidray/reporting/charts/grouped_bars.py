"""Draw grouped bars: a group for each class, in which each network has a bar."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reidray.reporting.charts.encoding import Chart, to_svg
from reidray.reporting.charts.style import LINE_STYLES, STYLE, WIDTH, add_legend

BAR_HEIGHT = 0.11
GAP = 0.13
"""Inches between the bars of two groups."""

MARGIN = 0.9
"""Inches above and below the bars."""
FEW_GROUPS = 8
"""Number of groups up to which the chart is as wide as the others."""

LARGE_WIDTH = 6.6


def grouped_bars(
    title: str,
    groups: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    x_label: str,
    prefix: str,
) -> Chart:
    """Draw shares as horizontal bars, in groups.

    Args:
        title: the caption.
        groups: the names of G groups, from top to bottom.
        shares: a share in 0..1 of each group, by the name that all bars of one colour have.
        x_label: the label of the horizontal axis.
        prefix: a prefix of the ids in the chart; unique in the page.
    """
    group_height = BAR_HEIGHT * len(shares) + GAP
    thickness = BAR_HEIGHT / group_height  # of a bar, where a group is 1 high
    is_wide = len(groups) > FEW_GROUPS
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(
            figsize=(LARGE_WIDTH if is_wide else WIDTH, MARGIN + group_height * len(groups)),
            layout="constrained",
        )
        axes = figure.subplots()
        middles = np.arange(len(groups))
        for number, (name, each) in enumerate(shares.items()):
            offset = (number - (len(shares) - 1) / 2) * thickness
            colour, _ = LINE_STYLES[number % len(LINE_STYLES)]
            axes.barh(
                middles + offset,
                each,
                height=0.85 * thickness,
                color=colour,
                hatch="////" if number >= len(LINE_STYLES) else "",  # each colour for the 2nd time
                edgecolor="white",
                linewidth=0,
                label=name,
            )
        axes.set_yticks(middles, groups)
        axes.set(xlabel=x_label, xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        add_legend(figure)
        return to_svg(title, figure, prefix, wide=is_wide)
