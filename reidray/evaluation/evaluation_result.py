"""Hold the result of an evaluation, and write its files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reidray.data.ids import CAMERA_IDS_FILE, PERSON_IDS_FILE, id_name_files
from reidray.storage.csv_files import write_csv

METRICS_FILE = "evaluation.json"
QUERIES_FILE = "per_query.csv"
CURVE_FILE = "cmc.png"
PAGE_FILE = "cross_domain.html"
EVALUATION_FILES = frozenset(
    {METRICS_FILE, QUERIES_FILE, CURVE_FILE, PAGE_FILE, PERSON_IDS_FILE, CAMERA_IDS_FILE}
)

RANKS = (1, 5, 10)
"""Ranks of the cumulative match curve that are metrics."""

MAX_NAMED_QUERIES = 10
"""Number of queries without a match that a message names. `per_query.csv` lists all."""


class QueryResult(NamedTuple):
    """Hold the result of one query; the fields are the columns of `per_query.csv`.

    Attributes:
        query: file name of the query, or its index, counted from 0.
        person: person id; None where unknown.
        camera: camera id; None where unknown.
        average_precision: 0 to 1; None where the query does not count.
        first_match_rank: rank of the first match, 1 for the best; None where no match is ranked.
        matches: number of gallery images that match.
    """

    query: str
    person: int | None
    camera: int | None
    average_precision: float | None
    first_match_rank: int | None
    matches: int


@dataclass(frozen=True)
class EvaluationResult:
    """Hold the result of an evaluation.

    Attributes:
        metrics: metrics by name.
        queries: results of the queries, in their order; empty without a ranking.
        curve: cumulative match curve: value n is the share of queries with a match among the best
            n gallery images; at most as long as the gallery.
        summary: the metrics and the protocol in one line.
        person_ids: person ids by name, of people with names.
        camera_ids: camera ids by name, of cameras with names.
    """

    metrics: dict[str, Any]
    queries: Sequence[QueryResult] = ()
    curve: Sequence[float] = ()
    summary: str = ""
    person_ids: Mapping[str, int] = field(default_factory=dict)
    camera_ids: Mapping[str, int] = field(default_factory=dict)


def unmatched_metrics(queries: Sequence[str]) -> dict[str, Any]:
    """Return the number of queries without a match, and the names of the first of them."""
    return {
        "queries_without_match": len(queries),
        "without_match": list(queries[:MAX_NAMED_QUERIES]),
    }


def describe_unmatched(queries: Sequence[str]) -> list[str]:
    """Return a line about the queries without a match, or no line where there are none."""
    if not queries:
        return []
    named = ", ".join(map(repr, queries[:MAX_NAMED_QUERIES]))
    more = ", ..." if len(queries) > MAX_NAMED_QUERIES else ""
    return [f"queries without a match: {len(queries)} ({named}{more})"]


def write_evaluation(folder: Path, result: EvaluationResult) -> None:
    """Write the files of an evaluation into an empty folder."""
    from reidray.reporting.charts.cmc import cmc_chart  # imports Matplotlib

    record = {**result.metrics, "cmc": list(result.curve)}
    (folder / METRICS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / QUERIES_FILE).write_bytes(query_table(result.queries))
    for name, text in id_name_files(result.person_ids, result.camera_ids).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / CURVE_FILE).write_bytes(cmc_chart(result.curve, result.summary))


def query_table(queries: Sequence[QueryResult]) -> bytes:
    """Return the queries as CSV in UTF-8, the worst first; queries that do not count come last.

    Characters of file names that UTF-8 cannot encode are written as backslash escapes.
    """
    ordered = sorted(queries, key=lambda query: query.average_precision or 0.0)
    ordered.sort(key=lambda query: query.average_precision is None)
    return write_csv(QueryResult._fields, ordered)
