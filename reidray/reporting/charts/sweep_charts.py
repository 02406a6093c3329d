"""Pictures of a sweep: all learning curves, all trials over what varied, and what mattered."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from reidray.config import ValidationConfig
from reidray.reporting.charts.learning_curves import (
    BLUE,
    GREY,
    HEIGHT,
    LIGHT_GREY,
    LOOK,
    VERMILION,
    WIDTH,
    Chart,
    svg_chart,
)

FEWEST_TRIALS = 5
"""Judged trials that importance needs."""

MOST_MARKS = 6
"""Values of an axis that are all named; of more, or of few trials, only the ends are."""

COLOURS = colormaps["viridis_r"]


def curves_chart(
    curves: dict[str, tuple[Sequence[int], Sequence[float]]], chosen: str, figure_name: str
) -> Chart:
    """A line for each trial over its epochs, that of the chosen one marked.

    Args:
        curves: by trial its epochs and its figures.
        chosen: the best trial.
        figure_name: what trials were compared by.
    """
    with rc_context(LOOK):
        figure = Figure(figsize=(2 * WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for name, (epochs, figures) in curves.items():
            if name != chosen:
                axes.plot(epochs, figures, color=LIGHT_GREY, linewidth=1)
                axes.plot(epochs[-1:], figures[-1:], color=GREY, marker=".", markersize=3)
        epochs, figures = curves[chosen]
        axes.plot(epochs, figures, color=VERMILION, label=f"trial {chosen}, the best")
        axes.set(xlabel="Epoch", ylabel=figure_name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left")
        return svg_chart("Learning curves of all trials", figure, "curves", wide=True)


def parallel_chart(
    values: Sequence[dict[str, Any]],
    figures: Sequence[float],
    *,
    validation: ValidationConfig,
    logarithmic: Sequence[str],
) -> Chart:
    """A line for each trial through an axis for each key, its colour by how good it was.

    Args:
        values: of N trials what each drew, by key.
        figures: of N trials the best figure.
        validation: names the figure that trials were compared by.
        logarithmic: keys whose axis is logarithmic.
    """
    keys = list(values[0])
    with rc_context(LOOK | {"axes.grid": False}):
        figure = Figure(figsize=(2 * WIDTH, 1.3 * HEIGHT), layout="constrained")
        axes = figure.subplots()
        places = [_places([v[key] for v in values], key in logarithmic) for key in keys]
        places.append(_places(list(figures), False))
        columns = np.stack([column for column, _ in places], axis=1)
        scores = [validation.score(figure) for figure in figures]
        scale = Normalize(min(scores), max(scores))
        for index in np.argsort(scores):
            share = scale(scores[index]) if max(scores) > min(scores) else 0.5
            axes.plot(columns[index], color=COLOURS(share), linewidth=1.6, alpha=0.85)
        for place, (_, marks) in enumerate(places):
            axes.axvline(place, color=GREY, linewidth=1)
            for height, text in marks:
                axes.annotate(
                    text,
                    (place, height),
                    (4, 0),
                    textcoords="offset points",
                    fontsize=8,
                    va="center",
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
                )
        names = [key.replace(".", ".\n").replace("_", " ") for key in (*keys, validation.select_by)]
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set(ylim=(-0.06, 1.06), xlim=(-0.1, len(keys) + 0.4))
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return svg_chart("Each trial through what it drew", figure, "parallel", wide=True)


def importances(values: Sequence[dict[str, Any]], figures: Sequence[float]) -> dict[str, float]:
    """What share of the figure's differences each key explains, by permutation (Breiman 2001).

    A random forest learns the figure from the values; how much worse it gets when a key's values
    are shuffled is the key's importance. The shares add up to 1, or are 0 where nothing is
    explained.

    Args:
        values: of N trials what each drew, by key.
        figures: of N trials the best figure.
    """
    keys = list(values[0])
    inputs = np.stack([_places([v[key] for v in values], False)[0] for key in keys], axis=1)
    forest = RandomForestRegressor(200, random_state=0).fit(inputs, figures)
    found = permutation_importance(forest, inputs, figures, n_repeats=20, random_state=0)
    worth = np.clip(found.importances_mean, 0, None)
    total = float(worth.sum())
    return {k: float(w) / total if total else 0.0 for k, w in zip(keys, worth, strict=True)}


def importance_chart(shares: dict[str, float]) -> Chart:
    """A bar for each key, the longest first."""
    ranked = sorted(shares.items(), key=lambda item: item[1])
    with rc_context(LOOK | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(2 * WIDTH, 0.7 + 0.3 * len(ranked)), layout="constrained")
        axes = figure.subplots()
        axes.barh([k for k, _ in ranked], [s for _, s in ranked], height=0.6, color=BLUE)
        axes.set(xlim=(0, 1), xlabel="Share of the explained differences")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        return svg_chart("What mattered", figure, "importance", wide=True)


def _places(
    values: list[Any], logarithmic: bool
) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Where values lie on an axis from 0 to 1, and its marks; names lie in their own order."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        numbers = np.array(values, dtype=np.float64)
        known = sorted(set(values))
        marks = known if len(known) <= MOST_MARKS < len(values) else [known[0], known[-1]]
        scaled, at = (np.log(x) if logarithmic else x for x in (numbers, np.array(marks, float)))
        low, high = scaled.min(), scaled.max()
        span = (high - low) or 1.0
        texts = [f"{mark:.3g}" for mark in marks]
        return (scaled - low) / span, list(zip(((at - low) / span).tolist(), texts, strict=True))
    names = sorted({str(value) for value in values})
    steps = max(len(names) - 1, 1)
    heights = {name: index / steps for index, name in enumerate(names)}
    return np.array([heights[str(v)] for v in values]), [(h, n) for n, h in heights.items()]
