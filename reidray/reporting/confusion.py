"""Which class was taken for which, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidray.reporting.charts import LOOK, Chart, svg_chart

FEW_CLASSES = 12
"""So many classes leave room for numbers in the cells."""


def confusion_chart(
    confusion: NDArray[np.int64], classes: Sequence[str], title: str, name: str
) -> Chart:
    """Counts by true class (row) and named class (column), shaded by their share of the row.

    Args:
        confusion: (C, C) int64.
        classes: the C names.
        title: of the picture.
        name: unique in the page.
    """
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.28 * min(count, 37)
    with rc_context(LOOK | {"axes.grid": False, "font.size": 10 if count <= FEW_CLASSES else 7}):
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        # Cells as shapes: a picture within the picture is what the page's own rules forbid.
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        middles = [index + 0.5 for index in range(count)]
        axes.set_xticks(middles, classes, rotation=90)
        axes.set_yticks(middles, classes)
        axes.set(xlabel="Named", ylabel="True")
        axes.tick_params(length=0)
        if count <= FEW_CLASSES:
            for (row, column), images in np.ndenumerate(confusion):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column + 0.5, row + 0.5, f"{images:,}", ha="center", va="center", color=colour
                )
        return svg_chart(title, figure, name)
