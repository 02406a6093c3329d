"""What a person sees of a sweep: a live table on a terminal, else a line as each trial ends."""

import logging
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

log = logging.getLogger("reidray")

SHOWN = 12
"""Trials in the live table: those that run, and the best of the others."""


@dataclass
class _Trial:
    """How a trial stands."""

    number: int
    values: str
    state: str = "runs"
    epoch: int = 0
    now: float | None = None
    best: float | None = None


class TrialLog(tune.Callback):  # type: ignore[misc]
    """Follows the trials of a sweep.

    Tune keeps it with the sweep's state, so that a sweep that is resumed goes on with its figures.
    """

    def __init__(self, figure: str, better: str, count: int, budget: float | None) -> None:
        self._figure, self._better, self._count = figure, better, count
        self._budget = budget
        self._start = time.time()
        self._trials: dict[str, _Trial] = {}
        self._live: Live | None = None

    def setup(self, **_: Any) -> None:
        """The sweep begins, or goes on."""
        self._start = time.time()
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), get_renderable=self._table)
            self._live.start()

    def on_trial_start(self, *, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial begins, or goes on."""
        values = ", ".join(f"{key} {_short(value)}" for key, value in trial.config.items())
        known = _Trial(trials.index(trial), values)
        self._trials.setdefault(trial.trial_id, known).state = "runs"

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial was judged after an epoch."""
        known = self._trials[trial.trial_id]
        known.epoch, known.now = int(result["epoch"]), float(result[self._figure])
        pick = max if self._better == "max" else min
        known.best = known.now if known.best is None else pick(known.best, known.now)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """A trial ended, or was stopped."""
        self._end(trial.trial_id, "ended")

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """A trial crashed."""
        self._end(trial.trial_id, "failed")

    def on_experiment_end(self, **_: Any) -> None:
        """No trial is left, or the sweep was interrupted."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_live": None}

    def _end(self, trial_id: str, state: str) -> None:
        known = self._trials[trial_id]
        known.state = state
        if self._live is not None:
            return
        best = "nothing" if known.best is None else f"{known.best:.3f}"
        log.info(
            "trial %d %s after epoch %d with %s %s: %s",
            known.number,
            state,
            known.epoch,
            self._figure,
            best,
            known.values,
        )

    def _table(self) -> Table:
        ended = [trial for trial in self._trials.values() if trial.state != "runs"]
        table = Table(title=f"{len(ended)} of {self._count} trials, {self._time_left(len(ended))}")
        for name in ("trial", "state", "epoch", self._figure, "best so far", "values"):
            table.add_column(name)
        sign = -1 if self._better == "max" else 1
        ranked = sorted(
            self._trials.values(),
            key=lambda trial: (
                trial.state != "runs",
                sign * trial.best if trial.best is not None else float("inf"),
            ),
        )
        for trial in ranked[:SHOWN]:
            figures = ("" if x is None else f"{x:.3f}" for x in (trial.now, trial.best))
            table.add_row(str(trial.number), trial.state, str(trial.epoch), *figures, trial.values)
        return table

    def _time_left(self, ended: int) -> str:
        """At the pace so far, or until the budget ends."""
        elapsed = time.time() - self._start
        left = [elapsed / ended * (self._count - ended)] if ended else []
        left += [self._budget - elapsed] if self._budget else []
        return f"{timedelta(seconds=round(max(min(left), 0)))} left" if left else "begun"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
