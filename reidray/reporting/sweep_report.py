"""The page of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reidray.config import ValidationConfig
from reidray.reporting.charts.sweep_charts import (
    FEWEST_TRIALS,
    curves_chart,
    importance_chart,
    importances,
    parallel_chart,
)
from reidray.reporting.rendering import render


@dataclass(frozen=True)
class SweptTrial:
    """A trial on the page, or one configuration of a trial of a population.

    Attributes:
        number: of the trial.
        state: finished, stopped early, unfinished, failed or replaced.
        values: what it drew, by key.
        epochs: those that were judged.
        figures: of each of these, what trials are compared by.
        best: the best of these; None where there are none.
        seconds: spent in training and validation.
        error: why it failed; None where it did not.
        part: which of the trial's configurations it is, from 0.
        copied: whose weights it began with; empty where they were random.
    """

    number: int
    state: str
    values: dict[str, Any]
    epochs: list[int]
    figures: list[float]
    best: float | None
    seconds: float
    error: str | None
    part: int = 0
    copied: str = ""

    @property
    def name(self) -> str:
        """The trial's number, and behind a point which configuration after the first it is."""
        return f"{self.number}.{self.part}" if self.part else str(self.number)


def sweep_page(
    *,
    name: str,
    validation: ValidationConfig,
    keys: Sequence[str],
    logarithmic: Sequence[str],
    trials: Sequence[SweptTrial],
    chosen: int,
    chosen_part: int = 0,
    equals: Sequence[str] = (),
    judged_on: str = "",
) -> str:
    """The page as HTML.

    Args:
        name: of the sweep.
        validation: names the figure that trials are compared by.
        keys: what varied.
        logarithmic: those of these that were drawn on a logarithmic scale.
        trials: in the order of drawing; the chosen one was judged.
        chosen: number of the best one.
        chosen_part: which of its configurations it is.
        equals: names of the others that are as good.
        judged_on: how many queries or images decided; empty where it is not known.
    """
    best = next(t for t in trials if (t.number, t.part) == (chosen, chosen_part))
    figure, score = validation.select_by, validation.score
    judged = [trial for trial in trials if trial.best is not None]
    values = [trial.values for trial in judged]
    figures = [float(trial.best) for trial in judged if trial.best is not None]
    charts = [
        curves_chart({t.name: (t.epochs, t.figures) for t in judged}, best.name, figure),
        parallel_chart(values, figures, validation=validation, logarithmic=logarithmic),
    ]
    if len(judged) >= FEWEST_TRIALS:
        charts.append(importance_chart(importances(values, figures)))
    ranked = sorted(trials, key=lambda t: (t.best is None, -score(t.best or 0), t.number, t.part))
    return render(
        "sweep.html",
        name=name,
        figure=figure,
        keys=keys,
        trials=ranked,
        chosen=best,
        equals=equals,
        judged_on=judged_on,
        population=any(trial.copied or trial.part for trial in trials),
        count=len({trial.number for trial in trials}),
        charts=charts,
        few=len(judged) < FEWEST_TRIALS,
        early=sum(trial.state == "stopped early" for trial in trials),
        failed=sum(trial.state == "failed" for trial in trials),
    )
