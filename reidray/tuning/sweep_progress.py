"""What a person sees of a sweep: a live table on a terminal, else a line as each trial ends."""

import json
import logging
import posixpath
import sys
import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.progress import Activity

log = logging.getLogger("reidray")

SHOWN = 12
"""Trials in the live table: those that run, and the best of the others."""


NUMBERS_FILE = "numbers.json"
"""By the id that Tune gives a trial its number, as the log has it."""

RESULTS_FILE = "results.json"
"""By the id of each trial of a population what it told of, in order."""

MISTAKE = f"{UserError.__module__}.{UserError.__name__}: "
"""Text that a traceback has before a user's mistake."""

TOLD = ("epoch", "seconds", "config", "checkpoint_dir_name")
"""Keys of a result that are written down."""


@dataclass
class _Trial:
    """Hold the state of a trial.

    Attributes:
        number: from 0, in the order in which trials begin; it stays when a sweep is resumed.
        values: that it was last judged under.
        coming: that it trains under now; a population changes them.
        best: the best figure under `values`.
    """

    number: int
    epochs: int
    values: dict[str, Any] = field(default_factory=dict)
    coming: dict[str, Any] | None = None
    state: str = "runs"
    epoch: int = 0
    now: float | None = None
    best: float | None = None

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.state not in ("runs", "waits")

    @property
    def done(self) -> float:
        """The share of it that is behind."""
        return 1.0 if self.ended else self.epoch / self.epochs


class _SweepLines(Activity):
    """The lines of a sweep in a log file, while no trial ends."""

    def __init__(self, log: "TrialLog") -> None:
        super().__init__("starting the trials")
        self._log = log

    def describe(self) -> str:
        """Return how the sweep stands."""
        return self._log.summary()


class TrialLog(tune.Callback):  # type: ignore[misc]
    """Follows the trials of a sweep.

    Tune keeps what it knows with the sweep's state, for a sweep that is resumed.

    Args:
        base: the configuration that is varied.
        count: of trials.
        budget: seconds that they have; None for no limit.
        keeps_results: whether to write down what each trial told of. Tune's own file loses results
            of trials that take turns: it is fetched again, as it was uploaded last, at each turn.
    """

    def __init__(
        self,
        base: TrainingConfig,
        count: int,
        budget: float | None,
        *,
        keeps_results: bool = False,
    ) -> None:
        self._base, self._count, self._budget = base, count, budget
        self._keeps_results = keeps_results
        self._results: dict[str, list[dict[str, Any]]] = {}
        self._start = time.time()
        self._done_before = 0.0
        self._trials: dict[str, _Trial] = {}
        self._live: Live | None = None
        self._lines: _SweepLines | None = None

    def get_state(self) -> dict[str, Any] | None:
        """How the trials stand."""
        return {"trials": self._trials, "results": self._results}

    def set_state(self, state: dict[str, Any]) -> None:
        """The sweep goes on; trials that had not ended wait to be started again."""
        self._trials = {
            key: trial if trial.ended else replace(trial, state="waits")
            for key, trial in state["trials"].items()
        }
        self._results = state.get("results", {})
        self._done_before = self._done

    def setup(self, **_: Any) -> None:
        """The sweep begins, or goes on."""
        self._start = time.time()
        if sys.stderr.isatty():
            console = Console(stderr=True)
            self._live = Live(console=console, get_renderable=self._table, transient=True)
            self._live.start()
        else:
            self._lines = _SweepLines(self)
            self._lines.__enter__()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial begins, or goes on, perhaps under other values."""
        epochs = trial.config.get("epochs", self._base.epochs)
        known = self._trials.setdefault(trial.trial_id, _Trial(len(self._trials), epochs))
        known.coming, known.state = dict(trial.config), "runs"
        if known.best is None:
            known.values = known.coming
        elif known.coming != known.values:
            self._say_copied(known, trial)

    def on_step_end(self, *, trials: list[Any], **_: Any) -> None:
        """Trials of a population take turns."""
        for trial in trials:
            if trial.status == trial.PAUSED:
                self._trials[trial.trial_id].state = "waits"

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial was judged after an epoch."""
        if self._keeps_results:
            told = {key: deepcopy(result[key]) for key in TOLD if key in result}
            self._results.setdefault(trial.trial_id, []).append(told)
        known, validation = self._trials[trial.trial_id], self._base.validation
        if known.coming is not None and known.coming != known.values:
            known.values, known.best = known.coming, None
        known.epoch, known.now = int(result["epoch"]), float(result[validation.select_by])
        seen = [x for x in (known.best, known.now) if x is not None and not isnan(x)]
        known.best = max(seen, key=validation.score, default=None)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """A trial ended, or was stopped."""
        known = self._trials[trial.trial_id]
        self._end(known, "ended" if known.epoch >= known.epochs else "stopped")

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """A trial crashed: tell a user's mistake in a line, and a bug with its traceback."""
        known = self._trials[trial.trial_id]
        self._end(known, "failed")
        text = Path(trial.error_file).read_text()
        told = reason_of(text) if MISTAKE in text else text
        log.warning("trial %d failed: %s", known.number, told)

    def on_experiment_end(self, *, trials: list[Any], **_: Any) -> None:
        """No trial is left, or the sweep was interrupted: write down numbers and results."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._lines is not None:
            self._lines.__exit__(None, None, None)
            self._lines = None
        if trials:
            storage = trials[0].storage
            contents: dict[str, Any] = {
                NUMBERS_FILE: {name: known.number for name, known in self._trials.items()}
            }
            if self._keeps_results:
                contents[RESULTS_FILE] = self._results
            for name, content in contents.items():
                place = posixpath.join(storage.experiment_fs_path, name)
                with storage.storage_filesystem.open_output_stream(place) as file:
                    file.write(json.dumps(content, indent=2).encode())

    def summary(self) -> str:
        """Return how many trials ended, the best figure and the time left."""
        trials = list(self._trials.values())
        ended = sum(trial.ended for trial in trials)
        bests = [trial.best for trial in trials if trial.best is not None]
        best = f", best {max(bests, key=self._base.validation.score):.3f}" if bests else ""
        return f"{ended} of {self._count} trials{best}, {self._time_left()}"

    @property
    def _done(self) -> float:
        """The share of the sweep that is behind."""
        return sum(trial.done for trial in self._trials.values()) / self._count

    def _say_copied(self, known: _Trial, trial: Any) -> None:
        """Tell that a trial of a population goes on from the weights of another."""
        if self._live is not None or trial.checkpoint is None:
            return
        copied = self._trials.get(posixpath.basename(posixpath.dirname(trial.checkpoint.path)))
        if copied is not None and copied is not known:
            log.info(
                "trial %d goes on from the weights of trial %d, under %s",
                known.number,
                copied.number,
                _listed(known.coming or {}),
            )

    def _end(self, known: _Trial, state: str) -> None:
        known.state = state
        if self._live is not None:
            return
        log.info(
            "trial %d %s after epoch %d with %s %s: %s",
            known.number,
            state,
            known.epoch,
            self._base.validation.select_by,
            "nothing" if known.best is None else f"{known.best:.3f}",
            _listed(known.values),
        )

    def _table(self) -> Table:
        validation, trials = self._base.validation, list(self._trials.values())
        table = Table(title=self.summary())
        for name in ("trial", "state", "epoch", validation.select_by, "its best"):
            table.add_column(name, no_wrap=True)
        table.add_column("values")
        for trial in sorted(trials, key=self._place)[:SHOWN]:
            figures = ("" if x is None else f"{x:.3f}" for x in (trial.now, trial.best))
            epoch = f"{trial.epoch}/{trial.epochs}"
            values = (f"{key.split('.')[-1]} {_short(v)}" for key, v in trial.values.items())
            drawn = Text(", ".join(values), no_wrap=True, overflow="ellipsis")
            table.add_row(str(trial.number), trial.state, epoch, *figures, drawn)
        return table

    def _place(self, trial: _Trial) -> tuple[bool, float]:
        """Where a trial stands in the table: those that run first, then the best."""
        worth = float("-inf") if trial.best is None else self._base.validation.score(trial.best)
        return trial.state != "runs", -worth

    def _time_left(self) -> str:
        """At the pace so far, were no other trial stopped, or until the budget ends."""
        elapsed, done = time.time() - self._start, self._done
        new = done - self._done_before
        left = [elapsed * (1 - done) / new] if new > 0 else []
        left += [self._budget - elapsed] if self._budget else []
        return f"{timedelta(seconds=round(max(min(left), 0)))} left" if left else "begun"


def reason_of(error: str) -> str:
    """Return the last line of a traceback, of a user's mistake without the name of its class."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1].removeprefix(MISTAKE) if lines else ""


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
