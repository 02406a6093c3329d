"""CSV files whose texts a spreadsheet does not compute.

A spreadsheet takes a cell such as `=HYPERLINK(...)` for a formula, and file names come from other
people. A text that begins like a formula is written with an apostrophe before it, which the
readers of this project take away again.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace

# The last four of the first set are the wide forms of = + - @. The apostrophes make the way back
# exact for a name that begins with one itself. Names such as -1_c1s1_000401_03.jpg, the junk of
# Market-1501, are no formulas and stay as they are.
_FORMULA = re.compile(r"'*(?:[=+@\t\r\n\uff1d\uff0b\uff0d\uff20]|-(?!1_c[0-9]\w*\.\w+\Z))")


def escape_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    >>> escape_formula("=1+2.jpg"), escape_formula("0002_c1.jpg")
    ("'=1+2.jpg", '0002_c1.jpg')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """Return the text that `escape_formula` was given.

    >>> unescape_formula("'=1+2.jpg"), unescape_formula("'quoted'.jpg")
    ('=1+2.jpg', "'quoted'.jpg")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a CSV file in UTF-8 with LF at the line ends, its texts neutralised.

    Characters that UTF-8 cannot hold, which file names may, come out as their codes.

    Args:
        header: names of the columns.
        rows: the cells of each row; None is an empty cell, and numbers are written as they are.
    """
    lines: list[str] = []
    # The module quotes a carriage return within a text only where lines end with one.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    for row in chain([header], rows):
        writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])
    text = "".join(line.removesuffix("\r\n") + "\n" for line in lines)
    return text.encode("utf-8", "backslashreplace")


def write_csv_records(records: Sequence[Mapping[str, object]]) -> bytes:
    """Return a CSV file with one row per record, as `write_csv` writes it.

    Args:
        records: one record or more; the keys of the first are the columns. A missing value is an
            empty cell.
    """
    columns = list(records[0])
    return write_csv(columns, ([record.get(name) for name in columns] for record in records))
