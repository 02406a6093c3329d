"""The folder that an evaluation leaves: `evaluation.json`, `per_query.csv` and `cmc.png`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reidray.data.ids import id_name_files
from reidray.evaluation.evaluation_paths import (
    CURVE_FILE,
    EVALUATION_FILES,
    METRICS_FILE,
    QUERIES_FILE,
)
from reidray.evaluation.evaluation_result import EvaluationResult, QueryResult
from reidray.reporting.charts.cmc import cmc_chart
from reidray.storage.csv_files import write_csv
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output


def publish(output: str | None, judge: Callable[[], EvaluationResult]) -> dict[str, Any]:
    """Judge, and leave a folder of what came out where one is asked for.

    Args:
        output: the folder; None leaves none. That it can be written is checked first.
        judge: gives the evaluation of a ranking.

    Returns:
        The figures, with the folder.

    Raises:
        UserError: the folder cannot be written or holds something else; it is then untouched.
    """
    if output is None:
        return judge().metrics
    with atomic_output(output, EVALUATION_FILES, METRICS_FILE) as staging:
        evaluation = judge()
        _write_files(staging, evaluation)
    return {"output": Location(output).uri, **evaluation.metrics}


def query_table(queries: Sequence[QueryResult]) -> bytes:
    """The queries as CSV in UTF-8, the worst first; a query that does not count comes last.

    Characters that UTF-8 cannot hold, which file names may, come out as their codes.
    """
    ordered = sorted(queries, key=lambda query: query.average_precision or 0.0)
    ordered.sort(key=lambda query: query.average_precision is None)
    return write_csv(QueryResult._fields, ordered)


def _write_files(folder: Path, evaluation: EvaluationResult) -> None:
    record = {**evaluation.metrics, "cmc": list(evaluation.curve)}
    (folder / METRICS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / QUERIES_FILE).write_bytes(query_table(evaluation.queries))
    for name, text in id_name_files(evaluation.person_ids, evaluation.camera_ids).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / CURVE_FILE).write_bytes(cmc_chart(evaluation.curve, evaluation.summary))
