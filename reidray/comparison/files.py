"""The files that a comparison leaves."""

import csv
import io
from typing import Any

FIGURES_FILE = "comparison.json"
TABLE_FILE = "table.csv"
REPORT_FILE = "report.html"


def as_csv(figures: list[dict[str, Any]]) -> str:
    """Rows of figures as CSV; an unknown one is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, figures[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures)
    return text.getvalue()
