"""Define the colours, line styles, legend and Matplotlib settings that all charts share."""

from typing import Any

from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#00795a", "#9c4f80"
GREY, LIGHT_GREY = "#5b6470", "#c9ced6"
BLACK, OCHRE = "#1c2128", "#a67c00"
LINE_STYLES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (PURPLE, ":"),
    (BLACK, "-"),
    (OCHRE, "--"),
)
"""Colour and dash pattern of each line, so that lines differ without colour too."""

WIDTH, HEIGHT = 4.4, 2.9
"""Size in inches of a chart that fills one column of a report."""

MAX_MARKERS = 25
"""Number of points up to which a line marks each point."""

LEGEND_COLUMNS = 3
"""Most columns of a legend."""

STYLE: dict[Any, Any] = {
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
"""Matplotlib settings (`rcParams`) of every chart."""


def add_legend(figure: Figure) -> None:
    """Put a legend above the axes of a figure, in as many columns as fit into its width."""
    for columns in range(LEGEND_COLUMNS, 0, -1):
        legend = figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
