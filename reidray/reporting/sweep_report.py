"""Render the report of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reidray.config import ValidationConfig
from reidray.reporting.charts.sweep_charts import (
    MIN_TRIALS,
    TrialCurve,
    curves_chart,
    importance_chart,
    parallel_chart,
    parameter_importance,
)
from reidray.reporting.rendering import render


@dataclass(frozen=True)
class ReportedTrial:
    """Hold a trial of the report, or one configuration of a trial of a population.

    Attributes:
        name: the number of the trial; `2.1` is the second configuration of trial 2.
        number: the number of the trial.
        state: finished, stopped early, unfinished, failed or replaced.
        parameters: the parameters that the sweep drew, by key.
        epochs: the evaluated epochs.
        metrics: the metric that the sweep optimises, one value per evaluated epoch.
        best: the best of these; None without an evaluated epoch.
        seconds: time spent in training and validation.
        error: the reason of the failure; None without one.
        initial_weights: the source of the first weights; empty where they were random.
    """

    name: str
    number: int
    state: str
    parameters: dict[str, Any]
    epochs: Sequence[int]
    metrics: Sequence[float]
    best: float | None
    seconds: float
    error: str | None = None
    initial_weights: str = ""


def render_sweep_report(
    *,
    name: str,
    validation: ValidationConfig,
    keys: Sequence[str],
    logarithmic: Sequence[str],
    trials: Sequence[ReportedTrial],
    best: ReportedTrial,
    tied: Sequence[str] = (),
    validation_size: str = "",
) -> str:
    """Render the report as HTML.

    Args:
        name: the name of the sweep.
        validation: the metric that the sweep optimises.
        keys: the keys of the parameters that the sweep draws.
        logarithmic: the keys that the sweep draws on a logarithmic scale.
        trials: the trials in the order of drawing.
        best: the best of the trials; it has an evaluated epoch.
        tied: the names of the other trials with the same best metric.
        validation_size: the number of validation queries or images, such as `8 queries`; empty
            where it is unknown.
    """
    metric = validation.select_by
    evaluated = [trial for trial in trials if trial.best is not None]
    parameters = [trial.parameters for trial in evaluated]
    metrics = [trial.best for trial in evaluated if trial.best is not None]
    charts = [
        curves_chart(
            {t.name: TrialCurve(t.epochs, t.metrics) for t in evaluated}, best.name, metric
        ),
        parallel_chart(parameters, metrics, validation=validation, logarithmic=logarithmic),
    ]
    if len(evaluated) >= MIN_TRIALS:
        charts.append(importance_chart(parameter_importance(parameters, metrics)))
    return render(
        "sweep.html",
        name=name,
        metric=metric,
        keys=keys,
        trials=_ranked(trials, validation),
        best=best,
        tied=tied,
        validation_size=validation_size,
        is_population=any(t.initial_weights or t.name != str(t.number) for t in trials),
        count=len({trial.number for trial in trials}),
        charts=charts,
        has_importance=len(evaluated) >= MIN_TRIALS,
        stopped_early=sum(trial.state == "stopped early" for trial in trials),
        failed=sum(trial.state == "failed" for trial in trials),
    )


def _ranked(trials: Sequence[ReportedTrial], validation: ValidationConfig) -> list[ReportedTrial]:
    """Return the trials from the best to the worst, and those without an evaluated epoch last."""
    evaluated = [trial for trial in trials if trial.best is not None]
    ranked = sorted(evaluated, key=lambda t: validation.score(t.best or 0.0), reverse=True)
    return ranked + [trial for trial in trials if trial.best is None]
