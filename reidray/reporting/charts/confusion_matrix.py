"""Draw confusion matrices."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import Chart, to_png, to_svg
from reidray.reporting.charts.style import STYLE, WIDTH

FEW_CLASSES = 8
"""Number of classes up to which the chart is as wide as the others."""

MARGIN = 1.5
"""Inches for the class names."""

CELL_SIZE = 0.27
"""Side of a cell in inches where there are more classes than `FEW_CLASSES`."""

POINTS_PER_INCH = 72
DIGIT_WIDTH = 0.62
"""Width of a digit as a share of the font size."""

MAP_SIZE = 4.0
MAPS_PER_ROW = 2


def confusion_chart(
    confusion: NDArray[np.int64], classes: Sequence[str], title: str, name: str
) -> Chart:
    """Draw counts by true class (row) and predicted class (column).

    The shade of a cell is its share of the row. The chart grows with the number of classes, so
    that counts of 37 classes stay legible.

    Args:
        confusion: (C, C) int64 counts.
        classes: the C class names.
        title: the caption of the chart.
        name: a prefix of the ids in the chart; unique in the page.
    """
    count = len(classes)
    cell_size = (WIDTH - MARGIN) / count if count <= FEW_CLASSES else CELL_SIZE
    side = MARGIN + cell_size * count
    with rc_context(STYLE | {"axes.grid": False, "font.size": 10 if count <= FEW_CLASSES else 8}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        _shade_cells(axes, shares)
        axes.set(
            xlim=(0, count), ylim=(count, 0), aspect="equal", xlabel="Predicted", ylabel="True"
        )
        middles = np.arange(count) + 0.5
        axes.set_xticks(middles, classes, rotation=90)
        axes.set_yticks(middles, classes)
        axes.tick_params(length=0)
        _write_counts(axes, confusion, shares, cell_size)
        return to_svg(title, figure, name, wide=count > FEW_CLASSES)


def _shade_cells(axes: Axes, shares: NDArray[np.float64]) -> None:
    """Draw the cells above 0, as vector shapes.

    The cells of one share form one shape, which keeps the chart of 37 classes small.
    """
    colours = colormaps["Blues"]
    for share in np.unique(shares[shares > 0]):
        cells = [
            Path([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)], closed=True)
            for y, x in np.argwhere(shares == share).tolist()
        ]
        axes.add_patch(
            PathPatch(
                Path.make_compound_path(*cells),
                facecolor=colours(float(share)),
                edgecolor="white",
                linewidth=0.5,
            )
        )


def _write_counts(
    axes: Axes, confusion: NDArray[np.int64], shares: NDArray[np.float64], cell_size: float
) -> None:
    """Write each count above 0 into its cell, whose side is `cell_size` inches."""
    longest = len(f"{confusion.max():,}")
    size = min(9.0, 0.8 * cell_size * POINTS_PER_INCH / (DIGIT_WIDTH * longest))
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


def confusion_maps(maps: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Draw confusion matrices of many people as one PNG image, without counts and names.

    The shade of a cell is the square root of its share, so that single confusions are visible.

    Args:
        maps: shares of the images of each true person (row) by predicted person (column), (C, C)
            in 0..1, by the title of the map.
    """
    rows = ceil(len(maps) / MAPS_PER_ROW)
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(MAP_SIZE * MAPS_PER_ROW, MAP_SIZE * rows), layout="constrained")
        grid = figure.subplots(rows, MAPS_PER_ROW, squeeze=False).ravel()
        for axes, (title, shares) in zip(grid, maps.items(), strict=False):
            axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
            axes.set_title(title, loc="left", fontsize=10)
            axes.set(xticks=[], yticks=[], xlabel="Predicted person", ylabel="True person")
            for side in ("right", "top"):
                axes.spines[side].set_visible(True)
        for axes in grid[len(maps) :]:
            axes.set_visible(False)
        return to_png(figure)
