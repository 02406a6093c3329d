"""The files that a sweep leaves."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from reidray.config import TrainingConfig, ValidationConfig
from reidray.reporting.sweep_report import SweptTrial, sweep_page
from reidray.storage.csv_files import write_csv_records
from reidray.storage.staging import atomic_write
from reidray.training.experiment import plain
from reidray.training.runs.run_directory import RunDirectory
from reidray.tuning.search_space import Variation
from reidray.tuning.trial_results import TrialRow, equals_of

TABLE_FILE = "trials.csv"
PARQUET_FILE = "trials.parquet"
BEST_FILE = "best.yaml"
REPORT_FILE = "report.html"


def write_outputs(
    output: RunDirectory,
    space: tuple[Variation, ...],
    base: TrainingConfig,
    best_config: TrainingConfig,
    rows: list[TrialRow],
    best: TrialRow,
    judged_on: str,
) -> dict[str, Any]:
    """Write the table of trials, the best configuration and the page into the sweep's folder.

    Args:
        output: the sweep's folder.
        space: what varied.
        base: the configuration that was varied.
        best_config: that of the best trial.
        rows: the trials.
        best: the best of them.
        judged_on: how many queries or images decided.

    Returns:
        What was made, and the sweep in figures.
    """
    figure = base.validation.select_by
    folder = output.folder
    equals = equals_of(best, rows, base.validation)
    _write_table(folder, rows)
    atomic_write(folder / BEST_FILE, yaml.safe_dump(plain(best_config), sort_keys=False))
    page = sweep_page(
        name=output.location.name,
        validation=base.validation,
        keys=[variation.key for variation in space],
        logarithmic=[v.key for v in space if v.way == "loguniform"],
        trials=[
            SweptTrial(
                number=row.number,
                part=row.part or 0,
                copied=_copied(row),
                state=row.state,
                values=row.values,
                epochs=[int(epoch["epoch"]) for epoch in row.epochs if figure in epoch],
                figures=[epoch[figure] for epoch in row.epochs if figure in epoch],
                best=row.best.get(figure),
                seconds=row.seconds,
                error=row.error,
            )
            for row in rows
        ],
        chosen=best.number,
        chosen_part=best.part or 0,
        equals=[row.name for row in equals],
        judged_on=judged_on,
    )
    atomic_write(folder / REPORT_FILE, page)
    output.share()
    states = [row.state for row in rows]
    population = {"configurations": len(rows)} if best.part is not None else {}
    return {
        "output": output.location.uri,
        "report": output.uri(REPORT_FILE),
        "table": output.uri(TABLE_FILE),
        "best_config": output.uri(BEST_FILE),
        "trials": len({row.number for row in rows}),
        **population,
        "stopped_early": states.count("stopped early"),
        "failed": states.count("failed"),
        "unfinished": states.count("unfinished"),
        "epochs_spent": sum(row.spent_epochs for row in rows),
        "epochs_asked": sum(row.asked_epochs for row in rows if row.state != "replaced"),
        "training_seconds": round(sum(row.seconds for row in rows), 1),
        "best_trial": best.number,
        **({"best_part": best.part} if population else {}),
        "equal_trials": [row.name for row in equals],
        "judged_on": judged_on,
        figure: round(best.best[figure], 4),
        "best_values": best.values,
    }


def write_trials(output: RunDirectory, rows: list[TrialRow]) -> None:
    """Write the table of trials alone, of a sweep that has not ended."""
    _write_table(output.folder, rows)
    output.share()


def _write_table(folder: Path, rows: list[TrialRow]) -> None:
    """Write the table of trials as CSV and as Parquet."""
    table = _table(rows)
    atomic_write(folder / TABLE_FILE, write_csv_records(table))
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table), parquet)
    atomic_write(folder / PARQUET_FILE, parquet.getvalue().to_pybytes())


def told_best(
    best: TrialRow, rows: list[TrialRow], validation: ValidationConfig, judged_on: str
) -> str:
    """Say in a line which trial is the best, which are as good, and what decided."""
    figure = validation.select_by
    equals = [row.name for row in equals_of(best, rows, validation)]
    others = f"; as good are {', '.join(equals)}, and the first of them was taken" if equals else ""
    return (
        f"the best is trial {best.name}, with {figure} {best.best[figure]:.3f} over "
        f"{judged_on}{others}"
    )


def _copied(row: TrialRow) -> str:
    """Say whose weights a row began with; nothing if they were random."""
    if row.copied_epoch is None:
        return ""
    source = "unknown trial" if row.copied_from is None else f"trial {row.copied_from}"
    return f"{source}, epoch {row.copied_epoch}"


def _table(rows: list[TrialRow]) -> list[dict[str, Any]]:
    """A row for each trial: how it ended, what it drew, and the figures of its best epoch.

    Of a population it has a row for each configuration of a trial, with whose weights it began.
    """
    named = {key: None for row in rows for key in row.best if key not in ("epoch", "seconds")}
    return [
        {
            "trial": row.number,
            **_origin(row),
            "state": row.state,
            **{key: _cell(value) for key, value in row.values.items()},
            "epochs": row.spent_epochs,
            "asked_epochs": row.asked_epochs,
            "training_seconds": round(row.seconds, 2),
            "best_epoch": int(row.best["epoch"]) if row.best else None,
            **{key: row.best.get(key) for key in named},
            "error": row.error,
        }
        for row in rows
    ]


def _origin(row: TrialRow) -> dict[str, Any]:
    """The columns of a population."""
    if row.part is None:
        return {}
    return {
        "part": row.part,
        "copied_from": row.copied_from,
        "copied_epoch": row.copied_epoch,
    }


def _cell(value: Any) -> Any:
    """A value as a table can hold it; a list of values becomes text."""
    return str(list(value)) if isinstance(value, tuple) else value
