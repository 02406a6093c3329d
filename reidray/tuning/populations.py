"""Divide the training of a population's trial by the configurations of the trial.

Population based training gives a weak trial the weights of a strong one and other parameters. Ray
Tune keeps every checkpoint, and the sweep records each result with its parameters.
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
from reidray.storage.connections.s3_connections import open_s3_for_ray
from reidray.training.checkpoint import TrainerState, read_trainer_state
from reidray.training.execution.ray_trainer import to_local_folder
from reidray.tuning.sweep_progress import RESULTS_FILE
from reidray.tuning.trial import TRIAL_KEY, TrialContext

Result = dict[str, Any]


@dataclass(frozen=True)
class TrialPart:
    """Hold the training of a trial under one configuration.

    Attributes:
        parameters: the parameters that the sweep drew, by key.
        start: the epoch of the first weights; 0 where they were random.
        records: the metrics of each epoch that was trained under the configuration.
        best: the metrics of the best of these epochs; empty without an evaluated epoch.
        copied_from: the number of the trial that trained the first weights, which may be the trial
            itself; None where they were random, or the sweep was started by an older version.
        checkpoint: local folder of the last epoch.
        trainer_state: the state in that checkpoint.
    """

    parameters: dict[str, Any]
    start: int
    records: tuple[Result, ...]
    best: Result
    copied_from: int | None
    checkpoint: Path
    trainer_state: TrainerState

    @property
    def holds_best(self) -> bool:
        """Return whether the best weights in the checkpoint are those of the part's best epoch."""
        return bool(self.best) and self.trainer_state.best_epoch == self.best["epoch"]


@dataclass(frozen=True)
class _PartCheckpoint:
    """Hold the last checkpoint of a part.

    Attributes:
        folder: its local folder.
        trainer_state: the state in it.
    """

    folder: Path
    trainer_state: TrainerState


@dataclass(frozen=True)
class Population:
    """Read the trials of a population.

    Attributes:
        context: images and settings that all trials share.
        keys: the keys of the parameters that the sweep draws.
        numbers: the numbers of the trials, by their ids.
    """

    context: TrialContext
    keys: tuple[str, ...]
    numbers: Mapping[str, int]

    def parts(self, trial_id: str) -> list[TrialPart]:
        """Return the training of a trial, one part per configuration.

        Epochs whose checkpoints were lost when a sweep was killed are left out.
        """
        groups = split_results(self._results.get(trial_id, []), self.keys)
        parts = [self._read_part(trial_id, group) for group in groups]
        return [part for part in parts if part is not None]

    @cached_property
    def _results(self) -> dict[str, list[Result]]:
        """Return the results that each trial reported, by its id."""
        folder = self.context.folder
        if not folder.join(RESULTS_FILE).is_file():
            return {}
        results: dict[str, list[Result]] = json.loads(folder.read_bytes(RESULTS_FILE))
        return results

    def _read_part(self, trial_id: str, results: Sequence[Result]) -> TrialPart | None:
        """Return the part that reported some results; None without a checkpoint of the part."""
        validation = self.context.experiment.config.validation
        metric = validation.select_by
        last = self._read_checkpoint(trial_id, results)
        if last is None:
            return None
        inherited = [
            record
            for record in last.trainer_state.records
            if metric in record and record["epoch"] < results[0]["epoch"]
        ]
        start = inherited[-1]["epoch"] if inherited else 0
        source = inherited[-1].get(TRIAL_KEY, "") if inherited else ""
        records = tuple(record for record in last.trainer_state.records if record["epoch"] > start)
        evaluated = [r for r in records if metric in r and not isnan(r[metric])]
        return TrialPart(
            parameters=parameters_of(results[0], self.keys),
            start=start,
            records=records,
            best=max(evaluated, key=lambda record: validation.score(record[metric]), default={}),
            copied_from=self.numbers.get(source),
            checkpoint=last.folder,
            trainer_state=last.trainer_state,
        )

    def _read_checkpoint(self, trial_id: str, results: Sequence[Result]) -> _PartCheckpoint | None:
        """Return the last undamaged checkpoint that belongs to one of the results."""
        folder = self.context.folder
        storage = open_s3_for_ray(folder.uri)
        for result in reversed(results):
            name = result.get("checkpoint_dir_name")
            if not name or not folder.join(f"{trial_id}/{name}").is_dir():
                continue
            path = f"{folder.path}/{trial_id}/{name}"
            local = to_local_folder(ray.train.Checkpoint(path, storage))
            try:
                state = read_trainer_state(local)
            except UserError:
                continue
            if state.records and _is_same_training(state.records[-1], result):
                return _PartCheckpoint(local, state)
        return None


def parameters_of(result: Result, keys: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of a result by key, with lists as tuples."""
    values = {key: result["config"][key] for key in keys}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def split_results(results: Iterable[Result], keys: tuple[str, ...]) -> list[list[Result]]:
    """Split the results of a trial where its parameters change.

    A sweep that was killed may train an epoch twice with the same parameters. The second result
    replaces the first.
    """
    groups: list[list[Result]] = []
    for result in results:
        if not groups or parameters_of(groups[-1][0], keys) != parameters_of(result, keys):
            groups.append([])
        earlier = [each for each in groups[-1] if each["epoch"] < result["epoch"]]
        groups[-1] = [*earlier, result]
    return groups


def _is_same_training(record: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Return whether two records are of the same training of an epoch.

    No two trainings of an epoch take the same time to the nanosecond.
    """
    return bool(record["epoch"] == result["epoch"] and record["seconds"] == result["seconds"])
