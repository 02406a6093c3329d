"""Draw the charts of a sweep: learning curves, parallel coordinates and parameter importance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from reidray.reporting.charts.encoding import Chart, to_svg
from reidray.reporting.charts.style import (
    BLUE,
    GREY,
    HEIGHT,
    LIGHT_GREY,
    STYLE,
    VERMILION,
    WIDTH,
)

MIN_TRIALS = 5
"""Number of evaluated trials from which parameter importance is computed."""

MAX_TICKS = 6
"""Number of distinct numbers up to which an axis labels each; else it labels its ends."""

COLOURS = colormaps["viridis_r"]


@dataclass(frozen=True)
class TrialCurve:
    """Hold the learning curve of a trial.

    Attributes:
        epochs: the evaluated epochs.
        values: the metric that the sweep optimises, one value per evaluated epoch.
    """

    epochs: Sequence[int]
    values: Sequence[float]


def curves_chart(curves: Mapping[str, TrialCurve], best: str, metric: str) -> Chart:
    """Draw the learning curve of each trial, with that of the best trial highlighted.

    Args:
        curves: the learning curves by the name of the trial.
        best: the name of the best trial.
        metric: the name of the metric that the sweep optimises.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            if name != best:
                axes.plot(curve.epochs, curve.values, color=LIGHT_GREY, linewidth=1)
                axes.plot(
                    curve.epochs[-1:], curve.values[-1:], color=GREY, marker=".", markersize=3
                )
        axes.plot(
            curves[best].epochs,
            curves[best].values,
            color=VERMILION,
            label=f"trial {best}, the best",
        )
        axes.set(xlabel="Epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left")
        return to_svg("Learning curves of all trials", figure, "curves", wide=True)


def parallel_chart(
    parameters: Sequence[dict[str, Any]],
    metrics: Sequence[float],
    *,
    validation: ValidationConfig,
    logarithmic: Sequence[str],
) -> Chart:
    """Draw parallel coordinates: one line per trial through one axis per parameter.

    Better trials have darker lines.

    Args:
        parameters: the parameters of each of N trials, by key.
        metrics: the best metric of each of N trials.
        validation: the metric that the sweep optimises.
        logarithmic: the keys whose axes are logarithmic.
    """
    keys = list(parameters[0])
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(2 * WIDTH, 1.3 * HEIGHT), layout="constrained")
        axes = figure.subplots()
        scales = [_scale([each[key] for each in parameters], key in logarithmic) for key in keys]
        scales.append(_scale(list(metrics), False))
        columns = np.stack([scale.heights for scale in scales], axis=1)
        scores = [validation.score(metric) for metric in metrics]
        normalise = Normalize(min(scores), max(scores))
        for index in np.argsort(scores):
            share = normalise(scores[index]) if max(scores) > min(scores) else 0.5
            axes.plot(columns[index], color=COLOURS(share), linewidth=1.6, alpha=0.85)
        for position, scale in enumerate(scales):
            axes.axvline(position, color=GREY, linewidth=1)
            for label, height in scale.ticks.items():
                axes.annotate(
                    label,
                    (position, height),
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
        return to_svg("Parameters of each trial", figure, "parallel", wide=True)


def parameter_importance(
    parameters: Sequence[dict[str, Any]], metrics: Sequence[float]
) -> dict[str, float]:
    """Compute the permutation importance of each parameter (Breiman 2001).

    A random forest predicts the metric from the parameters. The importance of a parameter is the
    loss of accuracy of the forest when the values of the parameter are shuffled.

    Args:
        parameters: the parameters of each of N trials, by key.
        metrics: the best metric of each of N trials.

    Returns:
        The share of each parameter in the sum of the importances, by key. All shares are 0 where
        no parameter explains a difference.
    """
    keys = list(parameters[0])
    inputs = np.stack([_scale([p[key] for p in parameters], False).heights for key in keys], axis=1)
    forest = RandomForestRegressor(200, random_state=0).fit(inputs, metrics)
    found = permutation_importance(forest, inputs, metrics, n_repeats=20, random_state=0)
    importance = np.clip(found.importances_mean, 0, None)
    total = float(importance.sum())
    return {
        key: float(value) / total if total else 0.0
        for key, value in zip(keys, importance, strict=True)
    }


def importance_chart(shares: dict[str, float]) -> Chart:
    """Draw the importance of each parameter as a bar, the largest first."""
    ranked = sorted(shares.items(), key=lambda item: item[1])
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(2 * WIDTH, 0.7 + 0.3 * len(ranked)), layout="constrained")
        axes = figure.subplots()
        axes.barh([k for k, _ in ranked], [s for _, s in ranked], height=0.6, color=BLUE)
        axes.set(xlim=(0, 1), xlabel="Share of the explained differences")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        return to_svg("Importance of each parameter", figure, "importance", wide=True)


@dataclass(frozen=True, eq=False)
class _Scale:
    """Map the values of a parameter to heights on an axis.

    Attributes:
        heights: (N,) float64, the height of the value of each trial, in 0..1.
        ticks: the heights of the labelled values, by label.
    """

    heights: NDArray[np.float64]
    ticks: dict[str, float]


def _scale(values: list[Any], logarithmic: bool) -> _Scale:
    """Map numbers to heights in proportion, and other values in the order of their names."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        numbers = np.array(values, dtype=np.float64)
        distinct = sorted(set(values))
        marked = (
            distinct if len(distinct) <= MAX_TICKS < len(values) else [distinct[0], distinct[-1]]
        )
        positions, marks = (
            np.log(x) if logarithmic else x for x in (numbers, np.array(marked, np.float64))
        )
        low = positions.min()
        span = (positions.max() - low) or 1.0
        labels = [f"{number:.3g}" for number in marked]
        ticks = dict(zip(labels, ((marks - low) / span).tolist(), strict=True))
        return _Scale((positions - low) / span, ticks)
    names = sorted({str(value) for value in values})
    steps = max(len(names) - 1, 1)
    ticks = {name: index / steps for index, name in enumerate(names)}
    return _Scale(np.array([ticks[str(value)] for value in values]), ticks)
