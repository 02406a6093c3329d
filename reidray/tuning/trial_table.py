"""Hold the results of trials, choose the best, and tabulate them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from reidray.config import ValidationConfig
from reidray.storage.csv_files import write_csv_records

TABLE_FILE = "trials.csv"
PARQUET_FILE = "trials.parquet"

TrialState = Literal["finished", "stopped early", "unfinished", "failed", "replaced"]
"""State of a trial: `stopped early` by the sweep; `unfinished` where the sweep ended before the
trial; `failed` after an error; `replaced` where population based training replaced its
configuration."""


@dataclass(frozen=True)
class TrialResult:
    """Hold the result of a trial under one configuration.

    Population based training changes the configuration of a weak trial and gives it the weights of
    a strong one. Each configuration of a trial then has a result of its own.

    Attributes:
        number: the number of the trial, from 0, in the order in which trials start.
        state: the state of the trial.
        parameters: the parameters that the sweep drew, by key.
        planned_epochs: number of epochs that the configuration plans.
        trained_epochs: number of epochs that were trained under the configuration.
        seconds: time spent in their training and validation.
        epochs: the metrics of the epochs.
        best: the metrics of the best epoch; empty without an evaluated epoch.
        error: the reason of the failure in one line; None without one.
        checkpoint: local folder of the last checkpoint, which holds the best weights; None without
            one, or where the best weights are of an epoch before the configuration.
        part: the index of the configuration in a trial of a population; None outside one.
        copied_from: the number of the trial that trained the first weights, which may be the trial
            itself; None where they were random, or the sweep was started by an older version.
        copied_epoch: the epoch of these weights.
    """

    number: int
    state: TrialState
    parameters: dict[str, Any]
    planned_epochs: int
    trained_epochs: int
    seconds: float
    epochs: tuple[dict[str, float], ...]
    best: dict[str, float]
    error: str | None = None
    checkpoint: Path | None = None
    part: int | None = None
    copied_from: int | None = None
    copied_epoch: int | None = None

    @property
    def name(self) -> str:
        """Return the number of the trial; `2.1` for the second configuration of trial 2."""
        return f"{self.number}.{self.part}" if self.part else str(self.number)


def best_result(results: Sequence[TrialResult], validation: ValidationConfig) -> TrialResult | None:
    """Return the result with the best epoch, the first of several; None without a checkpoint."""
    candidates = [result for result in results if result.best and result.checkpoint]
    metric = validation.select_by
    return max(candidates, key=lambda each: validation.score(each.best[metric]), default=None)


def tied_results(
    best: TrialResult, results: Sequence[TrialResult], validation: ValidationConfig
) -> list[TrialResult]:
    """Return the other results whose best metric equals that of the best."""
    metric = validation.select_by
    return [
        result
        for result in results
        if result is not best and result.best and result.best[metric] == best.best[metric]
    ]


def to_csv(results: Sequence[TrialResult]) -> bytes:
    """Return the table of trials as CSV. There is one trial or more."""
    return write_csv_records(_records(results))


def to_parquet(results: Sequence[TrialResult]) -> bytes:
    """Return the table of trials as Parquet."""
    file = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(_records(results)), file)
    return bytes(file.getvalue().to_pybytes())


def _records(results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """Return a row per result: its state, its parameters and the metrics of its best epoch.

    Rows of a population also hold the source of the first weights.
    """
    metrics = {key: None for row in results for key in row.best if key not in ("epoch", "seconds")}
    return [
        {
            "trial": row.number,
            **_population_columns(row),
            "state": row.state,
            **{key: _cell(value) for key, value in row.parameters.items()},
            "epochs": row.trained_epochs,
            "asked_epochs": row.planned_epochs,
            "training_seconds": round(row.seconds, 2),
            "best_epoch": int(row.best["epoch"]) if row.best else None,
            **{key: row.best.get(key) for key in metrics},
            "error": row.error,
        }
        for row in results
    ]


def _population_columns(row: TrialResult) -> dict[str, Any]:
    if row.part is None:
        return {}
    return {
        "part": row.part,
        "copied_from": row.copied_from,
        "copied_epoch": row.copied_epoch,
    }


def _cell(value: Any) -> Any:
    """Return a value as a cell of the table. A tuple becomes text."""
    return str(list(value)) if isinstance(value, tuple) else value
