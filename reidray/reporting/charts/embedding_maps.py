"""Draw two-dimensional maps of embeddings."""

from collections.abc import Mapping
from itertools import cycle
from math import ceil
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import GREY, STYLE

MAP_WIDTH, MAP_HEIGHT = 4.0, 3.8
MAPS_PER_ROW = 2
MARKERS = ("o", "s", "^", "D", "v", "P")
LEGEND_COLUMNS = 6


def embedding_maps(maps: Mapping[str, NDArray[np.float64]], person_ids: NDArray[np.int64]) -> bytes:
    """Draw maps of the same images by several methods as one PNG image, coloured by person.

    Args:
        maps: coordinates of the images, (N, 2), by the name of the method.
        person_ids: (N,) int64, the person in each image.
    """
    rows = ceil(len(maps) / MAPS_PER_ROW)
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(
            figsize=(MAP_WIDTH * MAPS_PER_ROW, MAP_HEIGHT * rows + 0.8), layout="constrained"
        )
        grid = figure.subplots(rows, MAPS_PER_ROW, squeeze=False).ravel()
        for axes, (name, coordinates) in zip(grid, maps.items(), strict=False):
            handles = _scatter_people(axes, coordinates, person_ids)
            axes.set_title(name, loc="left", fontsize=10)
            axes.set(xticks=[], yticks=[])
        for axes in grid[len(maps) :]:
            axes.set_visible(False)
        names = [f"person {person}" for person in np.unique(person_ids)]
        figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=LEGEND_COLUMNS,
            fontsize=8,
            labelcolor=GREY,
        )
        return to_png(figure)


def _scatter_people(
    axes: Axes, coordinates: NDArray[np.float64], person_ids: NDArray[np.int64]
) -> list[Any]:
    """Draw the images as dots, with one colour and marker for each person."""
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    styles = zip(np.unique(person_ids), cycle(colours), cycle(MARKERS), strict=False)
    handles = []
    for person, colour, marker in styles:
        points = coordinates[person_ids == person]
        handles.append(axes.scatter(points[:, 0], points[:, 1], s=16, color=colour, marker=marker))
    return handles
