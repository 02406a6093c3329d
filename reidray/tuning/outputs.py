"""The files that a sweep leaves."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from reidray.config import TrainingConfig
from reidray.data.outputs import write_whole
from reidray.reporting.sweep import SweptTrial, sweep_page
from reidray.reporting.tables import as_csv
from reidray.training.run import plain
from reidray.training.run_directory import RunDirectory
from reidray.tuning.outcome import TrialRow
from reidray.tuning.space import Variation

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
) -> dict[str, Any]:
    """Write the table of trials, the best configuration and the page into the sweep's folder.

    Returns:
        What was made, and the sweep in figures.
    """
    figure = base.validation.select_by
    folder = output.folder
    _write_table(folder, rows)
    write_whole(folder / BEST_FILE, yaml.safe_dump(plain(best_config), sort_keys=False))
    page = sweep_page(
        name=output.location.name,
        validation=base.validation,
        keys=[variation.key for variation in space],
        logarithmic=[v.key for v in space if v.way == "loguniform"],
        trials=[
            SweptTrial(
                number=row.number,
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
    )
    write_whole(folder / REPORT_FILE, page)
    output.share()
    states = [row.state for row in rows]
    return {
        "output": output.location.uri,
        "report": output.uri(REPORT_FILE),
        "table": output.uri(TABLE_FILE),
        "best_config": output.uri(BEST_FILE),
        "trials": len(rows),
        "stopped_early": states.count("stopped early"),
        "failed": states.count("failed"),
        "unfinished": states.count("unfinished"),
        "epochs_spent": sum(row.spent_epochs for row in rows),
        "epochs_asked": sum(row.asked_epochs for row in rows),
        "training_seconds": round(sum(row.seconds for row in rows), 1),
        "best_trial": best.number,
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
    write_whole(folder / TABLE_FILE, as_csv(table))
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table), parquet)
    write_whole(folder / PARQUET_FILE, parquet.getvalue().to_pybytes())


def _table(rows: list[TrialRow]) -> list[dict[str, Any]]:
    """A row for each trial: how it ended, what it drew, and the figures of its best epoch."""
    named = {key: None for row in rows for key in row.best if key not in ("epoch", "seconds")}
    return [
        {
            "trial": row.number,
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


def _cell(value: Any) -> Any:
    """A value as a table can hold it; a list of values becomes text."""
    return str(list(value)) if isinstance(value, tuple) else value
