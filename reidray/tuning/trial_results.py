"""Read the results of a sweep's trials from their checkpoints."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import ray.train
from ray import tune

from reidray.errors import UserError
from reidray.storage.connections.s3_connections import open_s3_for_ray
from reidray.storage.location import Location
from reidray.training.checkpoint import TrainerState, read_trainer_state
from reidray.training.execution.ray_trainer import to_local_folder
from reidray.training.experiment import training_seconds
from reidray.training.runs.checkpoint_files import CHECKPOINTS
from reidray.tuning.populations import Population, TrialPart
from reidray.tuning.search_space import SearchParameter
from reidray.tuning.sweep_progress import NUMBERS_FILE, last_line
from reidray.tuning.trial import TrialContext
from reidray.tuning.trial_table import TrialResult, TrialState

log = logging.getLogger("reidray")


def read_trial_results(
    grid: tune.ResultGrid, space: tuple[SearchParameter, ...], context: TrialContext
) -> list[TrialResult]:
    """Read the results of the trials that started, in the order of their numbers.

    Args:
        grid: the results of Ray Tune.
        space: the search space.
        context: images and settings that all trials share.
    """
    numbers = _read_numbers(context.folder)
    tune_results = {Path(result.path).name: result for result in grid}
    started = sorted((numbers[name], name) for name in tune_results if name in numbers)
    keys = tuple(parameter.key for parameter in space)
    population = Population(context, keys, numbers) if context.is_population else None
    results: list[TrialResult] = []
    for number, name in started:
        tune_result = tune_results[name]
        parts = [] if population is None else population.parts(name)
        drawn = _read_parameters(tune_result, context.folder)
        if parts:
            results += _results_of_parts(number, tune_result, parts, context)
        elif drawn:
            parameters = {key: drawn[key] for key in keys}
            result = _result_of_trial(number, tune_result, parameters, context)
            results.append(result if population is None else replace(result, part=0))
    return results


def _read_numbers(folder: Location) -> dict[str, int]:
    """Read the numbers of the trials that started, by their ids."""
    if not folder.join(NUMBERS_FILE).is_file():
        return {}
    numbers: dict[str, int] = json.loads(folder.read_bytes(NUMBERS_FILE))
    return numbers


def _read_parameters(tune_result: Any, folder: Location) -> dict[str, Any]:
    """Read the parameters of a trial; empty where it never started.

    Ray Tune's result has them once the trial reported an epoch.
    """
    if tune_result.config:
        return dict(tune_result.config)
    file = f"{Path(tune_result.path).name}/params.json"
    return dict(json.loads(folder.read_bytes(file))) if folder.join(file).is_file() else {}


def _result_of_trial(
    number: int, tune_result: Any, parameters: dict[str, Any], context: TrialContext
) -> TrialResult:
    """Return the result of a trial whose configuration did not change."""
    base = context.experiment.config
    checkpoint, state = _read_last_checkpoint(tune_result, context.folder)
    epochs = tuple(_numbers_only(record) for record in state.records)
    best = epochs[state.best_epoch - 1] if state.best_epoch else {}
    return TrialResult(
        number=number,
        state=_trial_state(tune_result, state),
        parameters=parameters,
        planned_epochs=int(parameters.get("epochs", base.epochs)),
        trained_epochs=len(epochs),
        seconds=training_seconds(epochs),
        epochs=epochs,
        best={} if isnan(best.get(base.validation.select_by, nan)) else best,
        error=_error_line(tune_result.error),
        checkpoint=checkpoint,
    )


def _results_of_parts(
    number: int, tune_result: Any, parts: Sequence[TrialPart], context: TrialContext
) -> Iterator[TrialResult]:
    """Yield a result for each configuration of a population's trial."""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        epochs = tuple(_numbers_only(record) for record in part.records)
        yield TrialResult(
            number=number,
            state=_trial_state(tune_result, part.trainer_state) if is_last else "replaced",
            parameters=part.parameters,
            planned_epochs=context.experiment.config.epochs,
            trained_epochs=len(epochs),
            seconds=training_seconds(epochs),
            epochs=epochs,
            best=_numbers_only(part.best),
            error=_error_line(tune_result.error) if is_last else None,
            checkpoint=part.checkpoint if part.holds_best else None,
            part=index,
            copied_from=part.copied_from,
            copied_epoch=part.start or None,
        )


def _read_last_checkpoint(tune_result: Any, folder: Location) -> tuple[Path | None, TrainerState]:
    """Read the last undamaged checkpoint that a trial reported.

    What Ray Tune calls the last checkpoint of a trial may be that of another trial, which the
    trial has not continued yet. The log names each damaged checkpoint.

    Returns:
        The local folder of the checkpoint and its state; None and an empty state without one.
    """
    for checkpoint in reversed(_checkpoints(tune_result, folder)):
        try:
            path = to_local_folder(checkpoint)
            return path, read_trainer_state(path)
        except FileNotFoundError:
            continue
        except UserError as error:
            log.warning("%s: the sweep uses the checkpoint before it", error)
    return None, TrainerState()


def _checkpoints(tune_result: Any, folder: Location) -> list[ray.train.Checkpoint]:
    """Return the checkpoints of a trial, the newest last. Ray Train keeps its own."""
    if tune_result.best_checkpoints:
        return [checkpoint for checkpoint, _ in tune_result.best_checkpoints]
    try:
        train_result = ray.train.Result.from_path(
            str(Path(tune_result.path) / CHECKPOINTS),
            storage_filesystem=open_s3_for_ray(folder.uri),
        )
    except RuntimeError:  # Ray Train trained nothing
        return []
    return [checkpoint for checkpoint, _ in train_result.best_checkpoints or []]


def _trial_state(tune_result: Any, state: TrainerState) -> TrialState:
    if tune_result.error:
        return "failed"
    if state.finished:
        return "finished"
    return "stopped early" if (tune_result.metrics or {}).get("done", False) else "unfinished"


def _numbers_only(record: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of an epoch that are numbers."""
    return {key: float(value) for key, value in record.items() if isinstance(value, int | float)}


def _error_line(error: Exception | None) -> str | None:
    """Return the last line of an error, which holds its message; None without an error."""
    return None if error is None else last_line(str(error)) or type(error).__name__
