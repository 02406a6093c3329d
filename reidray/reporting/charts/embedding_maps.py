"""Pictures of several methods side by side: their curves, and maps of their embeddings."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import as_png
from reidray.reporting.charts.learning_curves import FEW_POINTS, GREY, LOOK, STYLES

WIDTH, HEIGHT = 6.4, 4.6
MAP_WIDTH, MAP_HEIGHT, MAPS_IN_A_ROW = 4.0, 3.8, 2
MARKERS = ("o", "s", "^", "D", "v", "P")
LEGEND_COLUMNS = 6


def cmc_chart_of_methods(curves: Mapping[str, Sequence[float]]) -> bytes:
    """Cumulative match curves in one PNG picture.

    Args:
        curves: by method one share in 0..1 or more; the n-th is that of the queries with a match
            among the best n.
    """
    with rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for (name, curve), (colour, line) in zip(curves.items(), cycle(STYLES), strict=False):
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                color=colour,
                linestyle=line,
                marker="o" if len(curve) <= FEW_POINTS else "",
                label=name,
            )
        axes.set(xlabel="Rank", ylabel="Queries with a match up to this rank", ylim=(0, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left", ncols=3)
        return as_png(figure)


def embedding_maps(maps: Mapping[str, NDArray[np.float64]], people: NDArray[np.int64]) -> bytes:
    """Maps of the same images by several methods in one PNG picture, coloured by person.

    Args:
        maps: by method (N, 2) places.
        people: (N,) int64, who is on the images.
    """
    rows = ceil(len(maps) / MAPS_IN_A_ROW)
    with rc_context(LOOK | {"axes.grid": False}):
        figure = Figure(
            figsize=(MAP_WIDTH * MAPS_IN_A_ROW, MAP_HEIGHT * rows + 0.8), layout="constrained"
        )
        grid = figure.subplots(rows, MAPS_IN_A_ROW, squeeze=False).ravel()
        for axes, (name, places) in zip(grid, maps.items(), strict=False):
            handles = _scatter_people(axes, places, people)
            axes.set_title(name, loc="left", fontsize=10)
            axes.set(xticks=[], yticks=[])
        for axes in grid[len(maps) :]:
            axes.set_visible(False)
        names = [f"person {person}" for person in np.unique(people)]
        figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=LEGEND_COLUMNS,
            fontsize=8,
            labelcolor=GREY,
        )
        return as_png(figure)


def _scatter_people(
    axes: Axes, places: NDArray[np.float64], people: NDArray[np.int64]
) -> list[Any]:
    """The images as dots, each person with a colour and a shape of their own."""
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    looks = zip(np.unique(people), cycle(colours), cycle(MARKERS), strict=False)
    handles = []
    for person, colour, marker in looks:
        own = places[people == person]
        handles.append(axes.scatter(own[:, 0], own[:, 1], s=16, color=colour, marker=marker))
    return handles
