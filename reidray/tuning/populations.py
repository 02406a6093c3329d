"""Split a trial of a population into what it trained under each of its configurations.

Population based training gives a weak trial the weights of a strong one and other values. Tune
keeps every checkpoint, and each result is written down with the values it was reached under.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import ray.train

from reidray.errors import UserError
from reidray.storage.object_store import open_s3_for_ray
from reidray.training.checkpoint import TrainerState, read_trainer_state
from reidray.training.ray_trainer import to_local_folder
from reidray.tuning.sweep_progress import RESULTS_FILE
from reidray.tuning.trial import TRIAL, Trials

Result = dict[str, Any]


@dataclass(frozen=True)
class TrialPart:
    """Hold what a trial trained under one configuration.

    Attributes:
        values: what varied, by key.
        start: the epoch that its first weights had come to; 0 where they were random.
        records: the figures of each epoch that it trained.
        best: of these the best; empty where none was judged.
        copied_from: the number of the trial that trained these weights, which may be its own; None
            for random weights, and for those of a sweep that an earlier version began.
        checkpoint: folder of its last epoch.
        trainer_state: how far that had come.
    """

    values: dict[str, Any]
    start: int
    records: tuple[Result, ...]
    best: Result
    copied_from: int | None
    checkpoint: Path
    trainer_state: TrainerState

    @property
    def holds_best(self) -> bool:
        """Tell whether the checkpoint's best weights are those of the part's best epoch."""
        return bool(self.best) and self.trainer_state.best_epoch == self.best["epoch"]


@dataclass(frozen=True)
class Population:
    """The trials of a population.

    Attributes:
        trials: what all of them shared.
        keys: what varied.
        numbers: of the trials, by their ids.
    """

    trials: Trials
    keys: tuple[str, ...]
    numbers: Mapping[str, int]

    def parts(self, name: str) -> list[TrialPart]:
        """Return what a trial trained, one part for each of its configurations.

        What was lost when a sweep was killed, and trained again, is left out.
        """
        stretches = split_results(self._results.get(name, []), self.keys)
        parts = [self._part(name, stretch) for stretch in stretches]
        return [part for part in parts if part is not None]

    @cached_property
    def _results(self) -> dict[str, list[Result]]:
        """Return what each trial reported, by its id."""
        folder = self.trials.folder
        if not folder.join(RESULTS_FILE).is_file():
            return {}
        results: dict[str, list[Result]] = json.loads(folder.read_bytes(RESULTS_FILE))
        return results

    def _part(self, name: str, results: Sequence[Result]) -> TrialPart | None:
        """Return what a trial trained between two changes; None where no checkpoint shows it."""
        validation = self.trials.experiment.config.validation
        figure = validation.select_by
        found = self._checkpoint(name, results)
        if found is None:
            return None
        checkpoint, trainer_state = found
        before = [
            record
            for record in trainer_state.records
            if figure in record and record["epoch"] < results[0]["epoch"]
        ]
        start = before[-1]["epoch"] if before else 0
        donor = before[-1].get(TRIAL, "") if before else ""
        records = tuple(record for record in trainer_state.records if record["epoch"] > start)
        judged = [r for r in records if figure in r and not isnan(r[figure])]
        return TrialPart(
            values=values_of(results[0], self.keys),
            start=start,
            records=records,
            best=max(judged, key=lambda r: validation.score(r[figure]), default={}),
            copied_from=self.numbers.get(donor),
            checkpoint=checkpoint,
            trainer_state=trainer_state,
        )

    def _checkpoint(self, name: str, results: Sequence[Result]) -> tuple[Path, TrainerState] | None:
        """Return the last whole checkpoint that belongs to one of the results."""
        folder = self.trials.folder
        storage = open_s3_for_ray(folder.uri)
        for result in reversed(results):
            told = result.get("checkpoint_dir_name")
            if not told or not folder.join(f"{name}/{told}").is_dir():
                continue
            path = f"{folder.path}/{name}/{told}"
            place = to_local_folder(ray.train.Checkpoint(path, storage))
            try:
                trainer_state = read_trainer_state(place)
            except UserError:
                continue
            if trainer_state.records and _identity(trainer_state.records[-1]) == _identity(result):
                return place, trainer_state
        return None


def values_of(result: Result, keys: Iterable[str]) -> dict[str, Any]:
    """Return the values that a result was reached under."""
    values = {key: result["config"][key] for key in keys}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def split_results(results: Iterable[Result], keys: tuple[str, ...]) -> list[list[Result]]:
    """Split the results of a trial where its values change.

    Of an epoch that was trained twice under the same values, since a sweep was killed in between,
    the second result stays.
    """
    stretches: list[list[Result]] = []
    for result in results:
        same = stretches and values_of(stretches[-1][0], keys) == values_of(result, keys)
        if not same:
            stretches.append([])
        kept = [earlier for earlier in stretches[-1] if earlier["epoch"] < result["epoch"]]
        stretches[-1] = [*kept, result]
    return stretches


def _identity(record: Mapping[str, Any]) -> tuple[int, float]:
    """Tell one training of an epoch from another: no two take as long, to the nanosecond."""
    return int(record["epoch"]), float(record["seconds"])
