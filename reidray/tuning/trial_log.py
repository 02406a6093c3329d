"""Record the results that the trials of a running sweep report."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS

from reidray.config import ValidationConfig
from reidray.tuning.trial_table import TrialResult, TrialState

TABLE_STATES: dict[str, TrialState] = {
    "running": "unfinished",
    "waiting": "unfinished",
    "finished": "finished",
    "stopped": "stopped early",
    "failed": "failed",
}


@dataclass
class ConfigurationLog:
    """Record the training of a trial under one configuration.

    Attributes:
        parameters: the parameters that the sweep drew, by key.
        start: the epoch of the first weights.
        start_seconds: the running time of the trial at the start, as Ray Tune measures it.
        end_seconds: the running time of the trial at the last result.
        copied_from: the number of the trial that trained the first weights.
        records: the metrics of each evaluated epoch.
    """

    parameters: dict[str, Any]
    start: int = 0
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    copied_from: int | None = None
    records: list[dict[str, float]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Return the last evaluated epoch, or the epoch of the first weights."""
        return int(self.records[-1]["epoch"]) if self.records else self.start

    def best(self, validation: ValidationConfig) -> dict[str, float]:
        """Return the metrics of the best epoch; empty without an evaluated epoch."""
        metric = validation.select_by
        evaluated = [record for record in self.records if not isnan(record[metric])]
        return max(evaluated, key=lambda record: validation.score(record[metric]), default={})


@dataclass
class TrialLog:
    """Record the state and the results of a trial.

    Attributes:
        number: the number, from 0, in the order in which trials start. It stays the same when a
            sweep is resumed.
        planned_epochs: number of epochs that the trial plans.
        next_parameters: the parameters of its next epochs. Population based training changes them.
        configurations: a record of each configuration; the last has the last result.
        copied_from: the trial whose weights were copied to this trial last.
        state: running, waiting, finished, stopped or failed.
        error: the reason of the failure.
    """

    number: int
    planned_epochs: int
    next_parameters: dict[str, Any]
    configurations: list[ConfigurationLog]
    copied_from: "TrialLog | None" = None
    state: str = "running"
    error: str | None = None

    @property
    def current(self) -> ConfigurationLog:
        """Return the configuration of the last result."""
        return self.configurations[-1]

    @property
    def has_ended(self) -> bool:
        """Return whether the trial trains no more epochs."""
        return self.state not in ("running", "waiting")

    @property
    def progress(self) -> float:
        """Return the completed share of the trial."""
        return 1.0 if self.has_ended else self.current.epoch / self.planned_epochs

    @property
    def is_changed(self) -> bool:
        """Return whether the next epochs have other parameters than the last result."""
        return bool(self.current.records) and self.next_parameters != self.current.parameters

    def add_result(self, result: dict[str, Any]) -> None:
        """Add the metrics of an evaluated epoch, which was trained with `next_parameters`."""
        if self.is_changed:
            source = self.copied_from or self
            seconds = self.current.end_seconds
            start = min(source.current.epoch, int(result["epoch"]) - 1)
            self.configurations.append(
                ConfigurationLog(
                    self.next_parameters, start, seconds, seconds, copied_from=source.number
                )
            )
        self.current.parameters = self.next_parameters
        self.current.end_seconds = float(result.get("time_total_s", 0.0))
        self.current.records.append(_own_metrics(result))

    def to_results(
        self, validation: ValidationConfig, *, is_population: bool
    ) -> Iterator[TrialResult]:
        """Yield a result per configuration, from the evaluated epochs."""
        for index, each in enumerate(self.configurations):
            is_last = each is self.current
            yield TrialResult(
                number=self.number,
                state=TABLE_STATES[self.state] if is_last else "replaced",
                parameters=each.parameters,
                planned_epochs=self.planned_epochs,
                trained_epochs=each.epoch - each.start,
                seconds=each.end_seconds - each.start_seconds,
                epochs=tuple(each.records),
                best=each.best(validation),
                error=self.error if is_last else None,
                part=index if is_population else None,
                copied_from=each.copied_from,
                copied_epoch=each.start or None,
            )


def _own_metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return the numbers in a result that the training reported, not Ray Tune."""
    return {
        key: float(value)
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if key not in AUTO_RESULT_KEYS
    }
