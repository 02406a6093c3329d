"""Draw charts of clusters of users as PNG images, as the size of an SVG grows with the users."""

from collections.abc import Mapping, Sequence
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
from reidray.studies.films.gaussian_mixtures import Choice, Clusters, StateFits
from reidray.studies.films.user_map import UserMap

WIDTH, HEIGHT = 5.4, 4.2
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, "#b58900", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def bic_chart(fits: Sequence[StateFits], counts: Sequence[int], choice: Choice) -> bytes:
    """Draw the BIC over the number of clusters: of each random state, their mean, and the choice.

    Args:
        fits: the fits of each random state.
        counts: the K numbers of clusters.
        choice: the chosen number of clusters, which the chart marks.
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


def votes_chart(choice: Choice, counts: Sequence[int]) -> bytes:
    """Draw the number of random states that had their lowest BIC with each number of clusters.

    Args:
        choice: the votes, and the chosen number of clusters, which the chart marks.
        counts: the K numbers of clusters.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        colours = [VERMILION if count == choice.clusters else BLUE for count in counts]
        bars = axes.bar(counts, [choice.votes.get(count, 0) for count in counts], color=colours)
        axes.bar_label(bars, fontsize=8, color=GREY)
        axes.set_axisbelow(True)
        axes.set(xlabel="Clusters", ylabel="Random states that chose them")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(length=0)
        return to_png(figure)


def genres_chart(films: Mapping[str, int]) -> bytes:
    """Draw the number of films of each genre.

    Args:
        films: the numbers of films by genre, in the order of the bars.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.26 * len(films)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(list(films), list(films.values()), color=BLUE)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, color=GREY, padding=3)
        axes.set(xlabel="Films")
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.tick_params(length=0, axis="y", labelcolor=GREY)
        return to_png(figure)


def map_chart(user_map: UserMap, labels: NDArray[np.int64]) -> bytes:
    """Draw the map of the users, with one colour and marker for each cluster.

    Args:
        user_map: the coordinates of M of the U users.
        labels: (U,) int64, the cluster of each user, from 0.
    """
    clusters = labels[user_map.indices]
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for cluster in range(int(labels.max()) + 1):
            x, y = user_map.coordinates[clusters == cluster].T
            axes.scatter(x, y, s=12, alpha=0.75, linewidths=0, **_marker_style(cluster))
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        figure.legend(loc="outside upper left", ncols=4, markerscale=1.6, columnspacing=1)
        return to_png(figure)


def centres_chart(clusters: Clusters, genres: Sequence[str]) -> bytes:
    """Draw the mean rating of each genre in each cluster.

    Args:
        clusters: the K clusters.
        genres: the G names.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.26 * len(genres)), layout="constrained")
        axes = figure.subplots()
        for cluster, centre in enumerate(clusters.centres):
            axes.scatter(centre, range(len(genres)), s=26, alpha=0.85, **_marker_style(cluster))
        axes.set(xlabel="Mean rating, stars", yticks=range(len(genres)), yticklabels=genres)
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        axes.tick_params(length=0, axis="y", labelcolor=GREY)
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1)
        return to_png(figure)


def _marker_style(cluster: int) -> dict[str, Any]:
    """Return the colour, marker and label of a cluster. 42 clusters differ."""
    return {
        "color": COLOURS[cluster % len(COLOURS)],
        "marker": MARKERS[cluster % len(MARKERS)],
        "label": f"cluster {cluster + 1}",
    }
