"""The page of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reidray.config import ValidationConfig
from reidray.reporting.rendering import render
from reidray.reporting.sweep_charts import (
    FEWEST_TRIALS,
    curves_chart,
    importance_chart,
    importances,
    parallel_chart,
)


@dataclass(frozen=True)
class SweptTrial:
    """A trial on the page.

    Attributes:
        number: of the trial.
        state: finished, stopped early, unfinished or failed.
        values: what it drew, by key.
        epochs: those that were judged.
        figures: of each of these, what trials are compared by.
        best: the best of these; None where there are none.
        seconds: spent in training and validation.
        error: why it failed; None where it did not.
    """

    number: int
    state: str
    values: dict[str, Any]
    epochs: list[int]
    figures: list[float]
    best: float | None
    seconds: float
    error: str | None


def sweep_page(
    *,
    name: str,
    validation: ValidationConfig,
    keys: Sequence[str],
    logarithmic: Sequence[str],
    trials: Sequence[SweptTrial],
    chosen: int,
) -> str:
    """The page as HTML.

    Args:
        name: of the sweep.
        validation: names the figure that trials are compared by.
        keys: what varied.
        logarithmic: those of these that were drawn on a logarithmic scale.
        trials: in the order of drawing; the chosen one was judged.
        chosen: the best one.
    """
    figure, goodness = validation.select_by, validation.goodness
    judged = [trial for trial in trials if trial.best is not None]
    values = [trial.values for trial in judged]
    figures = [float(trial.best) for trial in judged if trial.best is not None]
    charts = [
        curves_chart({t.number: (t.epochs, t.figures) for t in judged}, chosen, figure),
        parallel_chart(values, figures, validation=validation, logarithmic=logarithmic),
    ]
    if len(judged) >= FEWEST_TRIALS:
        charts.append(importance_chart(importances(values, figures)))
    ranked = sorted(trials, key=lambda t: (t.best is None, -goodness(t.best or 0), t.number))
    return render(
        "sweep.html",
        name=name,
        figure=figure,
        keys=keys,
        trials=ranked,
        chosen=next(trial for trial in trials if trial.number == chosen),
        charts=charts,
        few=len(judged) < FEWEST_TRIALS,
        early=sum(trial.state == "stopped early" for trial in trials),
        failed=sum(trial.state == "failed" for trial in trials),
    )
