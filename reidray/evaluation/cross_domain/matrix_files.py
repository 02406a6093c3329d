"""Write the table of models and data sets as JSON and as a page."""

import json
from pathlib import Path

from reidray.evaluation.cross_domain.matrix_evaluation import COLUMNS, CrossDomainMatrix
from reidray.evaluation.evaluation_result import METRICS_FILE, PAGE_FILE
from reidray.reporting.rendering import render


def write_matrix(folder: Path, matrix: CrossDomainMatrix) -> None:
    """Write all metrics, and a page with the table, into an empty folder."""
    record = {
        "datasets": dict(matrix.datasets),
        "models": {
            name: {
                "model": each.directory,
                "images_per_second": each.images_per_second,
                "datasets": {dataset: dict(found) for dataset, found in each.metrics.items()},
            }
            for name, each in matrix.models.items()
        },
    }
    (folder / METRICS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    page = render("cross_domain.html", matrix=matrix, columns=COLUMNS)
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")
