"""Follow the trials of a sweep: show them on stderr, and keep the table of trials up to date."""

import json
import logging
import posixpath
import re
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reidray.config import TrainingConfig
from reidray.errors import FIELD, UserError
from reidray.progress import Activity
from reidray.storage.staging import atomic_write
from reidray.tuning.trial_log import ConfigurationLog, TrialLog
from reidray.tuning.trial_table import TABLE_FILE, TrialResult, to_csv

log = logging.getLogger("reidray")

MAX_LIVE_ROWS = 12
"""Rows of the live table: the trials that run, and the best of the others."""

NUMBERS_FILE = "numbers.json"
"""File with the number of each trial by the id that Ray Tune gives it."""

RESULTS_FILE = "results.json"
"""File with the results of each trial of a population by its id, in order."""

RESULT_KEYS = ("epoch", "seconds", "config", "checkpoint_dir_name")
"""Keys of a result that `RESULTS_FILE` keeps."""

USER_ERROR_PREFIX = f"{UserError.__module__}.{UserError.__name__}: "
"""Prefix of the last line of a `UserError`'s traceback."""

TABLE_SECONDS = 1.0
"""Seconds between two updates of the table of trials, at least."""


class _SweepActivity(Activity):
    """Log a line about the sweep while no trial ends, where stderr is no terminal."""

    def __init__(self, progress: "SweepProgress") -> None:
        super().__init__("starting the trials")
        self._progress = progress

    def describe(self) -> str:
        """Return a summary of the sweep."""
        return self._progress.summary()


class SweepProgress(tune.Callback):  # type: ignore[misc]
    """Follow the trials of a sweep.

    A terminal shows a live table of the trials; a log file gets a line as each trial ends. The
    sweep's folder gets the table of trials (trials.csv) while the trials run, so that a sweep that
    is killed has one. Ray Tune keeps the state of this callback for a resumed sweep.

    Args:
        base: the configuration that the sweep varies.
        count: number of trials.
        budget: time for the trials in seconds; None for no limit.
        is_population: whether the sweep is a population. Its results go to `RESULTS_FILE`, as Ray
            Tune's own file loses results of trials that take turns.
    """

    def __init__(
        self,
        base: TrainingConfig,
        count: int,
        budget: float | None,
        *,
        is_population: bool = False,
    ) -> None:
        self._base, self._count, self._budget = base, count, budget
        self._is_population = is_population
        self._results: dict[str, list[dict[str, Any]]] = {}
        self._start = time.time()
        self._progress_before = 0.0
        self._trials: dict[str, TrialLog] = {}
        self._live: Live | None = None
        self._activity: _SweepActivity | None = None
        self._table_written = 0.0

    def get_state(self) -> dict[str, Any] | None:
        """Return the state that a resumed sweep needs."""
        return {"trials": self._trials, "results": self._results}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of a sweep. Trials that have not ended wait for their start."""
        self._trials = {
            key: trial if trial.has_ended else replace(trial, state="waiting")
            for key, trial in state["trials"].items()
        }
        self._results = state.get("results", {})
        self._progress_before = self._progress

    def setup(self, **_: Any) -> None:
        """Start the display when the sweep starts or is resumed."""
        self._start = time.time()
        if sys.stderr.isatty():
            console = Console(stderr=True)
            self._live = Live(console=console, get_renderable=self._live_table, transient=True)
            self._live.start()
        else:
            self._activity = _SweepActivity(self)
            self._activity.__enter__()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """Record that a trial starts, or continues, possibly with other parameters."""
        parameters = dict(trial.config)
        epochs = parameters.get("epochs", self._base.epochs)
        new = TrialLog(len(self._trials), epochs, parameters, [ConfigurationLog(parameters)])
        trial_log = self._trials.setdefault(trial.trial_id, new)
        trial_log.next_parameters, trial_log.state = parameters, "running"
        if trial_log.is_changed:
            self._record_copy(trial_log, trial)

    def on_step_end(self, *, trials: list[Any], **_: Any) -> None:
        """Record the trials of a population that wait for their turn."""
        for trial in trials:
            if trial.status == trial.PAUSED:
                self._trials[trial.trial_id].state = "waiting"

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Record the metrics of an evaluated epoch."""
        if self._is_population:
            kept = {key: deepcopy(result[key]) for key in RESULT_KEYS if key in result}
            self._results.setdefault(trial.trial_id, []).append(kept)
        self._trials[trial.trial_id].add_result(result)
        if time.monotonic() - self._table_written >= TABLE_SECONDS:
            self._write_table(trial.storage)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Record that a trial has finished, or that the sweep stopped it."""
        trial_log = self._trials[trial.trial_id]
        self._end(
            trial_log,
            "finished" if trial_log.current.epoch >= trial_log.planned_epochs else "stopped",
        )
        self._write_table(trial.storage)

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """Log the message of a `UserError` that a trial raised, or the traceback of a bug."""
        trial_log = self._trials[trial.trial_id]
        self._end(trial_log, "failed")
        traceback = Path(trial.error_file).read_text()
        trial_log.error = last_line(traceback)
        is_user_error = USER_ERROR_PREFIX in traceback
        log.warning(
            "trial %d failed: %s", trial_log.number, trial_log.error if is_user_error else traceback
        )
        self._write_table(trial.storage)

    def on_experiment_end(self, *, trials: list[Any], **_: Any) -> None:
        """End the display and write the numbers and results of the trials."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._activity is not None:
            self._activity.__exit__(None, None, None)
            self._activity = None
        if trials:
            folder, storage = trials[0].storage.experiment_fs_path, trials[0].storage
            numbers = {trial_id: trial_log.number for trial_id, trial_log in self._trials.items()}
            _write_file(storage, f"{folder}/{NUMBERS_FILE}", _to_json(numbers))
            if self._is_population:
                _write_file(storage, f"{folder}/{RESULTS_FILE}", _to_json(self._results))

    def summary(self) -> str:
        """Return the number of ended trials, the best metric and the time left."""
        ended = sum(trial.has_ended for trial in self._trials.values())
        values = [
            value for trial in self._trials.values() if (value := self._best(trial)) is not None
        ]
        score = self._base.validation.score
        best = f", best {max(values, key=score):.3f}" if values else ""
        return f"{ended} of {self._count} trials{best}, {self._time_left()}"

    def results(self) -> Iterator[TrialResult]:
        """Yield the results of the trials so far, from the epochs that they reported.

        Only the checkpoints have the metrics of epochs without an evaluation.
        """
        for trial in self._trials.values():
            yield from trial.to_results(self._base.validation, is_population=self._is_population)

    @property
    def _progress(self) -> float:
        """Return the completed share of the sweep."""
        return sum(trial.progress for trial in self._trials.values()) / self._count

    def _best(self, trial: TrialLog) -> float | None:
        """Return the best metric of the trial under its current parameters."""
        return trial.current.best(self._base.validation).get(self._base.validation.select_by)

    def _record_copy(self, trial_log: TrialLog, trial: Any) -> None:
        """Log that a trial of a population continues from the weights of another trial."""
        if trial.checkpoint is None:
            return
        source_id = posixpath.basename(posixpath.dirname(trial.checkpoint.path))
        trial_log.copied_from = self._trials.get(source_id)
        if trial_log.copied_from not in (None, trial_log) and self._live is None:
            log.info(
                "trial %d continues from the weights of trial %d with %s",
                trial_log.number,
                trial_log.copied_from.number,
                _describe(trial_log.next_parameters),
            )

    def _end(self, trial_log: TrialLog, state: str) -> None:
        trial_log.state = state
        if self._live is not None:
            return
        best = self._best(trial_log)
        log.info(
            "trial %d %s after epoch %d with %s %s: %s",
            trial_log.number,
            state,
            trial_log.current.epoch,
            self._base.validation.select_by,
            "unknown" if best is None else f"{best:.3f}",
            _describe(trial_log.current.parameters),
        )

    def _write_table(self, storage: Any) -> None:
        """Write the table of trials into the sweep's folder, which holds Ray Tune's."""
        folder = posixpath.dirname(storage.experiment_fs_path)
        _write_file(storage, f"{folder}/{TABLE_FILE}", to_csv(list(self.results())))
        self._table_written = time.monotonic()

    def _live_table(self) -> Table:
        table, metric = Table(title=self.summary()), self._base.validation.select_by
        for name in ("trial", "state", "epoch", metric, "best"):
            table.add_column(name, no_wrap=True)
        table.add_column("parameters")
        for trial in sorted(self._trials.values(), key=self._live_order)[:MAX_LIVE_ROWS]:
            last = trial.current.records[-1][metric] if trial.current.records else None
            metrics = ("" if x is None else f"{x:.3f}" for x in (last, self._best(trial)))
            epoch = f"{trial.current.epoch}/{trial.planned_epochs}"
            drawn = trial.current.parameters.items()
            values = (f"{key.split('.')[-1]} {_describe_value(value)}" for key, value in drawn)
            text = Text(", ".join(values), no_wrap=True, overflow="ellipsis")
            table.add_row(str(trial.number), trial.state, epoch, *metrics, text)
        return table

    def _live_order(self, trial: TrialLog) -> tuple[bool, float]:
        """Return the sort key of the live table: trials that run first, then the best first."""
        best = self._best(trial)
        score = float("-inf") if best is None else self._base.validation.score(best)
        return trial.state != "running", -score

    def _time_left(self) -> str:
        """Return the time left at the pace so far, or until the budget ends."""
        elapsed, progress = time.time() - self._start, self._progress
        new = progress - self._progress_before
        left = [elapsed * (1 - progress) / new] if new > 0 else []
        left += [self._budget - elapsed] if self._budget else []
        return f"{timedelta(seconds=round(max(min(left), 0)))} left" if left else "started"


def last_line(traceback: str) -> str:
    """Return the last line of a traceback, without the class of a `UserError`.

    The files of a sweep have the line, and pass no command line that could name flags in it. So
    the fields of the training that a `UserError` names become flags of the training's job here.

    >>> last_line("reidray.errors.UserError: lower `batch.people` or use `precision=fp32`")
    'lower --batch.people or use --precision fp32'
    >>> last_line("KeyError: 'batch'")
    "KeyError: 'batch'"
    """
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    if not lines:
        return ""
    message = lines[-1].removeprefix(USER_ERROR_PREFIX)
    return message if message == lines[-1] else FIELD.sub(_name_flag, message)


def _name_flag(found: re.Match[str]) -> str:
    field, value = found.groups()
    flag = f"--{field.replace('_', '-')}"
    return flag if value is None else f"{flag} {value}"


def _write_file(storage: Any, path: str, content: bytes) -> None:
    """Write a file to the file system of Ray Tune's storage atomically."""
    if isinstance(storage.storage_filesystem, pafs.LocalFileSystem):
        atomic_write(Path(path), content)
        return
    with storage.storage_filesystem.open_output_stream(path) as file:
        file.write(content)


def _to_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _describe(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_describe_value(value)}" for key, value in parameters.items())


def _describe_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
