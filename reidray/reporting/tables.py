"""Figures as tables that other programs read."""

from typing import Any

from reidray.storage.csv_files import write_csv


def as_csv(figures: list[dict[str, Any]]) -> str:
    """Rows of figures as CSV, its texts neutralised; an unknown one is empty."""
    columns = list(figures[0])
    return write_csv(columns, ([row.get(name) for name in columns] for row in figures)).decode()
