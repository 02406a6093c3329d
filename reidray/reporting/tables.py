"""Figures as tables that other programs read."""

import csv
import io
from typing import Any


def as_csv(figures: list[dict[str, Any]]) -> str:
    """Rows of figures as CSV; an unknown one is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, figures[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures)
    return text.getvalue()
