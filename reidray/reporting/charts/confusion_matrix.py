"""Which class was taken for which, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidray.reporting.charts.learning_curves import LOOK, WIDTH, Chart, svg_chart

FEW_CLASSES = 8
"""So many classes fit in a picture as wide as the others."""

MARGIN = 1.5
"""Inches for the names of the classes."""

CELL = 0.27
"""Inches of a cell's side where there are many classes."""

POINTS_PER_INCH = 72
LETTER_WIDTH = 0.62
"""Of a digit, as a share of the size of the letters."""


def confusion_chart(
    confusion: NDArray[np.int64], classes: Sequence[str], title: str, name: str
) -> Chart:
    """Counts by true class (row) and named class (column), shaded by their share of the row.

    The picture grows with the classes, so that the counts of 37 can still be read.

    Args:
        confusion: (C, C) int64.
        classes: the C names.
        title: of the picture.
        name: unique in the page.
    """
    count = len(classes)
    cell = (WIDTH - MARGIN) / count if count <= FEW_CLASSES else CELL
    side = MARGIN + cell * count
    with rc_context(LOOK | {"axes.grid": False, "font.size": 10 if count <= FEW_CLASSES else 8}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        # Cells as shapes: a picture within the picture is what the page's own rules forbid.
        cells = np.ma.masked_equal(shares, 0)
        axes.pcolormesh(cells, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal", xlabel="Named", ylabel="True")
        middles = np.arange(count) + 0.5
        axes.set_xticks(middles, classes, rotation=90)
        axes.set_yticks(middles, classes)
        axes.tick_params(length=0)
        _write_counts(axes, confusion, shares, cell)
        return svg_chart(title, figure, name, wide=count > FEW_CLASSES)


def _write_counts(
    axes: Axes, confusion: NDArray[np.int64], shares: NDArray[np.float64], cell: float
) -> None:
    """Each count but 0 in its cell of `cell` inches."""
    longest = len(f"{confusion.max():,}")
    size = min(9.0, 0.8 * cell * POINTS_PER_INCH / (LETTER_WIDTH * longest))
    for row, column in np.argwhere(confusion).tolist():
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{confusion[row, column]:,}",
            ha="center",
            va="center_baseline",
            size=size,
            color="white" if shares[row, column] > 0.5 else "black",
        )
