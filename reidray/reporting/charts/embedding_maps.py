"""Draw two-dimensional maps of embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
MARKER_WIDTH, LETTER_WIDTH, LEGEND_ROW_HEIGHT = 0.6, 0.068, 0.19
"""Inches of an entry of the legend: its marker with the space around it, a letter, and a row."""


@dataclass(frozen=True, eq=False)
class LabelledMap:
    """Hold the map of N images of known classes.

    Attributes:
        coordinates: (N, 2) float64.
        labels: (N,) int64, the index of the class of each image.
    """

    coordinates: NDArray[np.float64]
    labels: NDArray[np.int64]


def embedding_maps(maps: Mapping[str, NDArray[np.float64]], person_ids: NDArray[np.int64]) -> bytes:
    """Draw maps of the same images by several methods as one PNG image, coloured by person.

    Args:
        maps: coordinates of the images, (N, 2), by the name of the method.
        person_ids: (N,) int64, the person in each image.
    """
    people, labels = np.unique(person_ids, return_inverse=True)
    labelled = {name: LabelledMap(each, labels) for name, each in maps.items()}
    return class_maps(labelled, [f"person {person}" for person in people])


def class_maps(maps: Mapping[str, LabelledMap], classes: Sequence[str]) -> bytes:
    """Draw maps of images by several networks as one PNG image, coloured by class.

    Args:
        maps: the map of each network by its name.
        classes: the names of the classes.
    """
    rows = ceil(len(maps) / MAPS_PER_ROW)
    width = MAP_WIDTH * MAPS_PER_ROW
    columns = max(1, int(width / (MARKER_WIDTH + LETTER_WIDTH * max(map(len, classes)))))
    legend_height = LEGEND_ROW_HEIGHT * (1 + ceil(len(classes) / columns))
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(width, MAP_HEIGHT * rows + legend_height), layout="constrained")
        grid = figure.subplots(rows, MAPS_PER_ROW, squeeze=False).ravel()
        for axes, (name, each) in zip(grid, maps.items(), strict=False):
            handles = _scatter_classes(axes, each, len(classes))
            axes.set_title(name, loc="left", fontsize=10)
            axes.set(xticks=[], yticks=[])
        for axes in grid[len(maps) :]:
            axes.set_visible(False)
        figure.legend(
            handles,
            classes,
            loc="outside lower left",
            ncols=columns,
            fontsize=8,
            labelcolor=GREY,
        )
        return to_png(figure)


def _scatter_classes(axes: Axes, shown: LabelledMap, count: int) -> list[Any]:
    """Draw the images as dots, with one colour and marker for each of `count` classes."""
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    styles = zip(range(count), cycle(colours), cycle(MARKERS), strict=False)
    handles = []
    for label, colour, marker in styles:
        points = shown.coordinates[shown.labels == label]
        handles.append(axes.scatter(points[:, 0], points[:, 1], s=16, color=colour, marker=marker))
    return handles
