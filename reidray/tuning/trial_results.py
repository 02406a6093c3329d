"""What the trials of a sweep came to."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

import ray.train
from ray import tune

from reidray.config import ValidationConfig
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.object_store import open_s3_for_ray
from reidray.training.checkpoint import TrainerState, read_trainer_state
from reidray.training.experiment import training_seconds
from reidray.training.ray_trainer import to_local_folder
from reidray.training.runs.checkpoint_files import CHECKPOINTS
from reidray.tuning.populations import Population, TrialPart
from reidray.tuning.search_space import Variation
from reidray.tuning.sweep_progress import NUMBERS_FILE, reason_of
from reidray.tuning.trial import Trials

log = logging.getLogger("reidray")

State = Literal["finished", "stopped early", "unfinished", "failed", "replaced"]


@dataclass(frozen=True)
class TrialRow:
    """A trial under one configuration.

    A population changes what a weak trial trains under and gives it the weights of a strong one.
    Each configuration of a trial is then a row of its own, with the epochs that it trained itself.

    Attributes:
        number: of the trial, from 0, in the order in which trials began.
        state: stopped early by the sweep; unfinished where the sweep itself ended; failed where it
            crashed; replaced where the trial went on under the configuration of its next row.
        values: what it drew, by key.
        asked_epochs: that the configuration would have had.
        epochs: figures of each epoch up to its last checkpoint, judged or not.
        best: those of the best one; empty where none was judged.
        error: why it failed, in a line; None where it did not.
        checkpoint: folder of its last epoch, with the weights of the best; None where there is
            none, or where the best are those of an epoch before the row's.
        part: of a population, which of the trial's configurations it is, from 0; else None.
        copied_from: the trial that trained the weights it began with, which may be its own; None
            where these were random, or of a sweep that an earlier version began.
        copied_epoch: the epoch these weights had come to.
    """

    number: int
    state: State
    values: dict[str, Any]
    asked_epochs: int
    epochs: tuple[dict[str, float], ...]
    best: dict[str, float]
    error: str | None
    checkpoint: Path | None
    part: int | None = None
    copied_from: int | None = None
    copied_epoch: int | None = None

    @property
    def name(self) -> str:
        """The trial's number, and behind a point which configuration after the first it is."""
        return f"{self.number}.{self.part}" if self.part else str(self.number)

    @property
    def spent_epochs(self) -> int:
        """How many epochs it trained."""
        return len(self.epochs)

    @property
    def seconds(self) -> float:
        """Spent in training and validation."""
        return training_seconds(self.epochs)


def rows_of(found: tune.ResultGrid, space: tuple[Variation, ...], trials: Trials) -> list[TrialRow]:
    """The trials that began, by their numbers, which are those of the log.

    Args:
        found: what Tune found.
        space: what varied.
        trials: what all trials shared.
    """
    numbers = _numbers_of(trials.folder)
    results = {Path(result.path).name: result for result in found}
    began = sorted((numbers[name], name) for name in results if name in numbers)
    if trials.mutates:
        population = Population(trials, tuple(v.key for v in space), numbers)
        parts = {name: population.parts(name) for _, name in began}
    rows: list[TrialRow] = []
    for number, name in began:
        drawn = _drawn(results[name], trials.folder)
        if trials.mutates and parts[name]:
            rows += _rows_of_parts(number, results[name], parts[name], trials)
        elif drawn:
            row = _row(number, results[name], drawn, space, trials)
            rows.append(replace(row, part=0) if trials.mutates else row)
    return rows


def best_of(rows: list[TrialRow], validation: ValidationConfig) -> TrialRow | None:
    """The trial with the best epoch of all; of equal ones the first."""
    judged = [row for row in rows if row.best and row.checkpoint]
    figure = validation.select_by
    return max(judged, key=lambda row: validation.score(row.best[figure]), default=None)


def equals_of(best: TrialRow, rows: list[TrialRow], validation: ValidationConfig) -> list[TrialRow]:
    """The other rows that are as good as the best."""
    figure = validation.select_by
    return [
        row
        for row in rows
        if row is not best and row.best and row.best[figure] == best.best[figure]
    ]


def _numbers_of(folder: Location) -> dict[str, int]:
    """The numbers of the trials that began, by their ids."""
    if not folder.join(NUMBERS_FILE).is_file():
        return {}
    numbers: dict[str, int] = json.loads(folder.read_bytes(NUMBERS_FILE))
    return numbers


def _rows_of_parts(
    number: int, result: Any, parts: Sequence[TrialPart], trials: Trials
) -> Iterator[TrialRow]:
    """A row for each configuration of a trial of a population."""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        yield TrialRow(
            number=number,
            state=_state(result, part.trainer_state) if last else "replaced",
            values=part.values,
            asked_epochs=trials.experiment.config.epochs,
            epochs=tuple(_numbers(record) for record in part.records),
            best=_numbers(part.best),
            error=_line(result.error) if last and result.error else None,
            checkpoint=part.checkpoint if part.holds_best else None,
            part=index,
            copied_from=part.copied_from,
            copied_epoch=part.start or None,
        )


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
    base = trials.experiment.config
    values = {v.key: drawn[v.key] for v in space}
    checkpoint, trainer_state = _checkpoint(result, trials.folder)
    epochs = tuple(_numbers(record) for record in trainer_state.records)
    best = epochs[trainer_state.best_epoch - 1] if trainer_state.best_epoch else {}
    return TrialRow(
        number=number,
        state=_state(result, trainer_state),
        values=values,
        asked_epochs=int(values.get("epochs", base.epochs)),
        epochs=epochs,
        best={} if isnan(best.get(base.validation.select_by, nan)) else best,
        error=_line(result.error) if result.error else None,
        checkpoint=checkpoint,
    )


def _checkpoint(result: Any, folder: Location) -> tuple[Path | None, TrainerState]:
    """Return the last whole checkpoint that a trial told of, and how far it had come.

    Ray Train, where it trained, has its own. What Tune itself calls the last may be another
    trial's, given to it and not yet trained on. A logged line names each that is damaged.
    """
    for checkpoint in reversed(_checkpoints(result, folder)):
        try:
            place = to_local_folder(checkpoint)
            return place, read_trainer_state(place)
        except FileNotFoundError:
            continue
        except UserError as error:
            log.warning("%s: looking at the checkpoint before it", error)
    return None, TrainerState()


def _checkpoints(result: Any, folder: Location) -> list[ray.train.Checkpoint]:
    """Return the checkpoints of a trial, the newest last."""
    if result.best_checkpoints:
        return [checkpoint for checkpoint, _ in result.best_checkpoints]
    try:
        of_train = ray.train.Result.from_path(
            str(Path(result.path) / CHECKPOINTS), storage_filesystem=open_s3_for_ray(folder.uri)
        )
    except RuntimeError:  # there is none
        return []
    return [checkpoint for checkpoint, _ in of_train.best_checkpoints or []]


def _state(result: Any, trainer_state: TrainerState) -> State:
    if result.error:
        return "failed"
    if trainer_state.finished:
        return "finished"
    return "stopped early" if (result.metrics or {}).get("done", False) else "unfinished"


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    """The figures of an epoch that are numbers."""
    return {key: float(value) for key, value in record.items() if isinstance(value, int | float)}


def _line(error: Exception) -> str:
    """The last line of what was raised, which says what it was."""
    return reason_of(str(error)) or type(error).__name__
