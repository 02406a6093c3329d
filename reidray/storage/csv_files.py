"""Write CSV files whose texts a spreadsheet does not take for formulas.

A spreadsheet computes a cell such as `=HYPERLINK(...)`, and file names may come from anybody.
`write_csv` puts an apostrophe before a text that begins like a formula, and the readers of this
project remove it.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace

# The last four characters of the set are the wide forms of = + - @. The pattern accepts leading
# apostrophes, so that a name that begins with one is escaped and restored exactly. Names such as
# -1_c1s1_000401_03.jpg, the junk of Market-1501, are no formulas and stay as they are.
_FORMULA = re.compile(r"'*(?:[=+@\t\r\n\uff1d\uff0b\uff0d\uff20]|-(?!1_c[0-9]\w*\.\w+\Z))")


def escape_formula(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would take it for a formula.

    >>> escape_formula("=1+2.jpg"), escape_formula("0002_c1.jpg")
    ("'=1+2.jpg", '0002_c1.jpg')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """Return the text from which `escape_formula` made this one.

    >>> unescape_formula("'=1+2.jpg"), unescape_formula("'quoted'.jpg")
    ('=1+2.jpg', "'quoted'.jpg")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return the bytes of a CSV file: UTF-8, LF line ends, texts with formulas escaped.

    Characters of file names that UTF-8 cannot encode are written as backslash escapes.

    Args:
        header: the names of the columns.
        rows: the cells of each row. None is an empty cell; numbers are not escaped.
    """
    lines: list[str] = []
    # The csv module quotes a carriage return in a text only if lines end with one.
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
