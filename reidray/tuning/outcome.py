"""What the trials of a sweep came to."""

import json
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Literal

from ray import tune

from reidray.config import ValidationConfig
from reidray.training.run import seconds_of
from reidray.tuning.space import Variation
from reidray.tuning.trial import Trials

State = Literal["finished", "stopped early", "unfinished", "failed"]

OF_TUNE = ("time", "timestamp", "training_iteration", "iterations", "node", "pid", "done")
"""How the names begin of what Tune adds to the figures of an epoch."""


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Attributes:
        number: from 0, in the order of drawing.
        state: stopped early by the sweep; unfinished where the sweep itself ended; failed where it
            crashed.
        values: what it drew, by key.
        asked_epochs: that the configuration would have had.
        epochs: figures of each epoch that was judged.
        best: those of the best one; empty where none was judged.
        error: why it failed, in a line; None where it did not.
        checkpoint: folder of its last epoch; None where there is none.
    """

    number: int
    state: State
    values: dict[str, Any]
    asked_epochs: int
    epochs: tuple[dict[str, float], ...]
    best: dict[str, float]
    error: str | None
    checkpoint: Path | None

    @property
    def spent_epochs(self) -> int:
        """How many epochs it trained."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def seconds(self) -> float:
        """Spent in training and validation."""
        return seconds_of(self.epochs)


def rows_of(found: tune.ResultGrid, space: tuple[Variation, ...], trials: Trials) -> list[TrialRow]:
    """The trials that began, in the order of drawing.

    Args:
        found: what Tune found.
        space: what varied.
        trials: what all trials shared.
    """
    return [
        _row(number, result, values, space, trials)
        for number, result in enumerate(found)
        if (values := _drawn(result))
    ]


def best_of(rows: list[TrialRow], validation: ValidationConfig) -> TrialRow | None:
    """The trial with the best epoch of all; of equal ones the first."""
    judged = [row for row in rows if row.best and row.checkpoint]
    pick = min if validation.better == "min" else max
    return pick(judged, key=lambda row: row.best[validation.select_by], default=None)


def _drawn(result: Any) -> dict[str, Any]:
    """What a trial drew; nothing where it never began."""
    if result.config:
        return dict(result.config)
    told = Path(result.path) / "params.json"  # Tune itself keeps it only once a trial reported
    return dict(json.loads(told.read_text())) if told.exists() else {}


def _row(
    number: int,
    result: Any,
    drawn: dict[str, Any],
    space: tuple[Variation, ...],
    trials: Trials,
) -> TrialRow:
    base = trials.prepared.config
    figure = base.validation.select_by
    values = {v.key: drawn[v.key] for v in space}
    asked = int(values.get("epochs", base.epochs))
    epochs = [row for row in _epochs(result.metrics_dataframe) if not isnan(row[figure])]
    pick = min if base.validation.better == "min" else max
    best = pick(epochs, key=lambda row: row[figure], default={})
    return TrialRow(
        number=number,
        state=_state(result, int(epochs[-1]["epoch"]) if epochs else 0, asked),
        values=values,
        asked_epochs=asked,
        epochs=tuple(epochs),
        best=best,
        error=_line(result.error) if result.error else None,
        checkpoint=_checkpoint(result),
    )


def _checkpoint(result: Any) -> Path | None:
    """The folder of a trial's last epoch; Ray Train, where it trained, has its own."""
    if result.checkpoint:
        return Path(result.checkpoint.path)
    of_train = (result.metrics or {}).get("checkpoint_path")
    return Path(of_train) if of_train else None


def _state(result: Any, spent: int, asked: int) -> State:
    if result.error:
        return "failed"
    if not (result.metrics or {}).get("done", False):
        return "unfinished"
    return "finished" if spent >= asked else "stopped early"


def _epochs(frame: Any) -> list[dict[str, float]]:
    """The figures of each epoch, each epoch once, without what Tune adds."""
    if frame is None or frame.empty:
        return []
    names = [n for n in frame if not n.startswith((*OF_TUNE, "config/"))]
    numbers = frame[names].select_dtypes("number").drop_duplicates("epoch", keep="last")
    return [{str(k): float(v) for k, v in row.items()} for row in numbers.to_dict("records")]


def _line(error: Exception) -> str:
    """The last line of what was raised, which says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
