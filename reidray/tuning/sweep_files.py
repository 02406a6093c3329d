"""Write the files of a sweep: the table of trials, the best configuration and the report."""

from collections.abc import Sequence
from typing import Any

import yaml

from reidray.config import TrainingConfig, ValidationConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.reporting.sweep_report import ReportedTrial, render_sweep_report
from reidray.storage.staging import atomic_write
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.search_space import SearchParameter
from reidray.tuning.trial_table import (
    PARQUET_FILE,
    TABLE_FILE,
    TrialResult,
    tied_results,
    to_csv,
    to_parquet,
)

BEST_FILE = "best.yaml"
REPORT_FILE = "report.html"


def write_sweep_files(
    output: RunDirectory,
    space: tuple[SearchParameter, ...],
    base: TrainingConfig,
    best_config: TrainingConfig,
    results: Sequence[TrialResult],
    best: TrialResult,
    validation_size: str,
) -> dict[str, Any]:
    """Write the files of a finished sweep.

    Args:
        output: the sweep's folder.
        space: the search space.
        base: the configuration that the sweep varied.
        best_config: the configuration of the best trial.
        results: the results of the trials.
        best: the best of them.
        validation_size: the number of validation queries or images, such as `8 queries`.

    Returns:
        The summary of the sweep for the job's JSON line.
    """
    atomic_write(
        output.folder / BEST_FILE, yaml.safe_dump(config_to_dict(best_config), sort_keys=False)
    )
    trials = {result.name: _to_reported(result, base.validation) for result in results}
    report = render_sweep_report(
        name=output.location.name,
        validation=base.validation,
        keys=[parameter.key for parameter in space],
        logarithmic=[each.key for each in space if each.distribution == "loguniform"],
        trials=list(trials.values()),
        best=trials[best.name],
        tied=[result.name for result in tied_results(best, results, base.validation)],
        validation_size=validation_size,
    )
    atomic_write(output.folder / REPORT_FILE, report)
    write_trial_table(output, results)
    return _summarize(output, base.validation, results, best, validation_size)


def write_trial_table(output: RunDirectory, results: Sequence[TrialResult]) -> None:
    """Write the table of trials as CSV and Parquet into the sweep's folder."""
    atomic_write(output.folder / TABLE_FILE, to_csv(results))
    atomic_write(output.folder / PARQUET_FILE, to_parquet(results))
    output.upload()


def describe_best(
    best: TrialResult,
    results: Sequence[TrialResult],
    validation: ValidationConfig,
    validation_size: str,
) -> str:
    """Return a line about the best trial, the trials that tie with it, and the validation."""
    metric = validation.select_by
    tied = [result.name for result in tied_results(best, results, validation)]
    ties = f"; trials {', '.join(tied)} tie with it, and the sweep takes the first" if tied else ""
    return (
        f"the best is trial {best.name}, with {metric} {best.best[metric]:.3f} over "
        f"{validation_size}{ties}"
    )


def _summarize(
    output: RunDirectory,
    validation: ValidationConfig,
    results: Sequence[TrialResult],
    best: TrialResult,
    validation_size: str,
) -> dict[str, Any]:
    """Return the files and the metrics of the sweep."""
    metric = validation.select_by
    states = [result.state for result in results]
    is_population = best.part is not None
    return {
        "output": output.location.uri,
        "report": output.uri(REPORT_FILE),
        "table": output.uri(TABLE_FILE),
        "best_config": output.uri(BEST_FILE),
        "trials": len({result.number for result in results}),
        **({"configurations": len(results)} if is_population else {}),
        "stopped_early": states.count("stopped early"),
        "failed": states.count("failed"),
        "unfinished": states.count("unfinished"),
        "epochs_spent": sum(result.trained_epochs for result in results),
        "epochs_asked": sum(r.planned_epochs for r in results if r.state != "replaced"),
        "training_seconds": round(sum(result.seconds for result in results), 1),
        "best_trial": best.number,
        **({"best_part": best.part} if is_population else {}),
        "equal_trials": [result.name for result in tied_results(best, results, validation)],
        "judged_on": validation_size,
        metric: round(best.best[metric], 4),
        "best_values": best.parameters,
    }


def _to_reported(result: TrialResult, validation: ValidationConfig) -> ReportedTrial:
    """Return a result as the report shows it."""
    metric = validation.select_by
    evaluated = [epoch for epoch in result.epochs if metric in epoch]
    return ReportedTrial(
        name=result.name,
        number=result.number,
        state=result.state,
        parameters=result.parameters,
        epochs=[int(epoch["epoch"]) for epoch in evaluated],
        metrics=[epoch[metric] for epoch in evaluated],
        best=result.best.get(metric),
        seconds=result.seconds,
        error=result.error,
        initial_weights=_describe_initial_weights(result),
    )


def _describe_initial_weights(result: TrialResult) -> str:
    """Return the source of the first weights; empty where they were random."""
    if result.copied_epoch is None:
        return ""
    source = "unknown trial" if result.copied_from is None else f"trial {result.copied_from}"
    return f"{source}, epoch {result.copied_epoch}"
