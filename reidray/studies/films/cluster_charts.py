"""Pictures of clusters of users, as PNG: an SVG would grow with the users."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from reidray.reporting.charts.encoding import to_png
from reidray.reporting.charts.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    PURPLE,
    STYLE,
    VERMILION,
)
from reidray.studies.films.mixtures import Choice, Clusters, StateFits
from reidray.studies.films.user_map import UserMap

WIDTH, HEIGHT = 5.4, 4.2
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, "#b58900", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def bic_chart(fits: Sequence[StateFits], counts: Sequence[int], choice: Choice) -> bytes:
    """BIC over the number of clusters: a line for each random state, their mean, the choice.

    Args:
        fits: one for each random state.
        counts: the K numbers of clusters tried.
        choice: marked.
    """
    curves = np.array([state.bic for state in fits])
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        each = axes.plot(counts, curves.T, color=LIGHT_GREY, linewidth=0.8, marker=".")
        [mean] = axes.plot(counts, curves.mean(axis=0), color=BLUE, marker="o")
        chosen = axes.axvline(choice.clusters, color=VERMILION, linestyle="--", zorder=0)
        axes.set(xlabel="Clusters", ylabel="BIC, lower is better")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.tick_params(length=0)
        names = ("each random state", "their mean", f"chosen: {choice.clusters}")
        figure.legend((each[0], mean, chosen), names, loc="outside upper left", ncols=3)
        return to_png(figure)


def map_chart(user_map: UserMap, labels: NDArray[np.int64]) -> bytes:
    """The users on the plane, in the colour and shape of their cluster.

    Args:
        user_map: M of the U users.
        labels: (U,) int64, each user's cluster, counted from 0.
    """
    clusters = labels[user_map.rows]
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for cluster in range(int(labels.max()) + 1):
            x, y = user_map.places[clusters == cluster].T
            axes.scatter(x, y, s=12, alpha=0.75, linewidths=0, **_look_of(cluster))
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        figure.legend(loc="outside upper left", ncols=4, markerscale=1.6, columnspacing=1)
        return to_png(figure)


def centres_chart(clusters: Clusters, genres: Sequence[str]) -> bytes:
    """Each cluster's mean of each genre, a mark on the genre's line.

    Args:
        clusters: K of them.
        genres: G names.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.26 * len(genres)), layout="constrained")
        axes = figure.subplots()
        for cluster, centre in enumerate(clusters.centres):
            axes.scatter(centre, range(len(genres)), s=26, alpha=0.85, **_look_of(cluster))
        axes.set(xlabel="Mean rating, stars", yticks=range(len(genres)), yticklabels=genres)
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        axes.tick_params(length=0, axis="y", labelcolor=GREY)
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1)
        return to_png(figure)


def _look_of(cluster: int) -> dict[str, Any]:
    """A cluster's colour and shape; 42 differ."""
    return {
        "color": COLOURS[cluster % len(COLOURS)],
        "marker": MARKERS[cluster % len(MARKERS)],
        "label": f"cluster {cluster + 1}",
    }
