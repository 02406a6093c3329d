"""What the trials of a sweep came to."""

import json
import logging
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

import ray.train
from ray import tune

from reidray.config import ValidationConfig
from reidray.data.object_store import open_for_ray
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.training.checkpoint import Standing, read_standing
from reidray.training.checkpoint_files import CHECKPOINTS
from reidray.training.run import seconds_of
from reidray.training.trainer import on_this_disk
from reidray.tuning.space import Variation
from reidray.tuning.trial import Trials

log = logging.getLogger("reidray")

State = Literal["finished", "stopped early", "unfinished", "failed"]


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    A population changes what a weak trial trains under and gives it the weights of a strong one,
    with their history: `values` are then the last that it trained under, `epochs` and `best` those
    of its weights, of which another trial may have trained the first.

    Attributes:
        number: from 0, in the order of drawing.
        state: stopped early by the sweep; unfinished where the sweep itself ended; failed where it
            crashed.
        values: what it drew, by key.
        asked_epochs: that the configuration would have had.
        epochs: figures of each epoch up to its last checkpoint, judged or not.
        best: those of the best one; empty where none was judged.
        error: why it failed, in a line; None where it did not.
        checkpoint: folder of its last epoch, with the weights of the best; None where there is
            none.
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
        return len(self.epochs)

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
        if (values := _drawn(result, trials.folder))
    ]


def best_of(rows: list[TrialRow], validation: ValidationConfig) -> TrialRow | None:
    """The trial with the best epoch of all; of equal ones the first."""
    judged = [row for row in rows if row.best and row.checkpoint]
    figure = validation.select_by
    return max(judged, key=lambda row: validation.goodness(row.best[figure]), default=None)


def _drawn(result: Any, folder: Location) -> dict[str, Any]:
    """What a trial drew; nothing where it never began."""
    if result.config:
        return dict(result.config)
    told = f"{Path(result.path).name}/params.json"  # Tune itself keeps it once a trial reported
    return dict(json.loads(folder.read_bytes(told))) if folder.join(told).is_file() else {}


def _row(
    number: int,
    result: Any,
    drawn: dict[str, Any],
    space: tuple[Variation, ...],
    trials: Trials,
) -> TrialRow:
    base = trials.prepared.config
    values = {v.key: drawn[v.key] for v in space}
    checkpoint, standing = _checkpoint(result, trials.folder)
    epochs = tuple(_numbers(record) for record in standing.records)
    best = epochs[standing.best_epoch - 1] if standing.best_epoch else {}
    return TrialRow(
        number=number,
        state=_state(result, standing),
        values=values,
        asked_epochs=int(values.get("epochs", base.epochs)),
        epochs=epochs,
        best={} if isnan(best.get(base.validation.select_by, nan)) else best,
        error=_line(result.error) if result.error else None,
        checkpoint=checkpoint,
    )


def _checkpoint(result: Any, folder: Location) -> tuple[Path | None, Standing]:
    """Return the last whole checkpoint that a trial told of, and how far it had come.

    Ray Train, where it trained, has its own. What Tune itself calls the last may be another
    trial's, given to it and not yet trained on. A logged line names each that is damaged.
    """
    for checkpoint in reversed(_checkpoints(result, folder)):
        try:
            place = on_this_disk(checkpoint)
            return place, read_standing(place)
        except FileNotFoundError:
            continue
        except UserError as error:
            log.warning("%s: looking at the checkpoint before it", error)
    return None, Standing()


def _checkpoints(result: Any, folder: Location) -> list[ray.train.Checkpoint]:
    """Return the checkpoints of a trial, the newest last."""
    if result.best_checkpoints:
        return [checkpoint for checkpoint, _ in result.best_checkpoints]
    try:
        of_train = ray.train.Result.from_path(
            str(Path(result.path) / CHECKPOINTS), storage_filesystem=open_for_ray(folder.uri)
        )
    except RuntimeError:  # there is none
        return []
    return [checkpoint for checkpoint, _ in of_train.best_checkpoints or []]


def _state(result: Any, standing: Standing) -> State:
    if result.error:
        return "failed"
    if standing.finished:
        return "finished"
    return "stopped early" if (result.metrics or {}).get("done", False) else "unfinished"


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    """The figures of an epoch that are numbers."""
    return {key: float(value) for key, value in record.items() if isinstance(value, int | float)}


def _line(error: Exception) -> str:
    """The last line of what was raised, which says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
