"""Read and write `reid_test.txt`: for each query its nearest gallery images, best first."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reidray.errors import UserError

FORBIDDEN = (",", '"', ": ")
_COLON_BEFORE_SPACE = re.compile(r":(?=\s|$)")


@dataclass(frozen=True)
class RankingRow:
    """Hold a line of a ranking.

    Attributes:
        line: number of the line in the file, from 1.
        query: name of the query.
        names: names of gallery images, best first.
        scores: a score of each gallery image; empty where the file has none.
    """

    line: int
    query: str
    names: tuple[str, ...]
    scores: tuple[float, ...] = ()


def check_names(names: Iterable[str]) -> None:
    """Check that the output files can hold file names.

    Commas separate the names, a colon and a space separates the query from them, and the attribute
    file is not quoted. The files are UTF-8.

    Raises:
        UserError: a name cannot be written; the message holds the first such name.
    """
    for name in names:
        if (
            not name
            or not name.isprintable()
            or name != name.strip()
            or any(mark in name for mark in FORBIDDEN)
        ):
            raise UserError(
                f"file name {name!r} cannot stand in reid_test.txt: rename it without commas, "
                "quotes, a colon before a space, line breaks, and spaces at either end, in UTF-8"
            )


def write_ranking(ranking: Mapping[str, Sequence[str]]) -> bytes:
    """Return the bytes of a file, or of a part of one: a line for each query, in their order.

    Args:
        ranking: query name to gallery names, best first; a query without names has a line too.
            `check_names` has accepted all names.
    """
    lines = []
    for query, names in ranking.items():
        ranked = f" {', '.join(names)}" if names else ""
        lines.append(f"{query}:{ranked}\n")
    return "".join(lines).encode()


def read_ranking(data: bytes, name: str) -> dict[str, tuple[str, ...]]:
    """Return query name to gallery names, best first, in the order of the file.

    The file may have CRLF line ends, blank lines, trailing commas, tabs for spaces, and no space
    after a comma or after the query's colon, as other tools write it. A name may hold a colon: the
    query then ends at the first colon before a space.

    Args:
        data: bytes of the file.
        name: name of the file, for the message of an error.

    Raises:
        UserError: the end of a query is not clear, or a query or a name occurs twice.
    """
    return collect_rows(plain_rows(numbered_lines(data, name), name), name)


def numbered_lines(data: bytes, name: str) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, stripped, with their numbers.

    Raises:
        UserError: the file is not UTF-8, or UTF-16 with a mark at its beginning.
    """
    encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a UTF-8 text file; expected a ranking") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = enumerate(text.split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def plain_rows(lines: Iterable[tuple[int, str]], name: str) -> list[RankingRow]:
    """Return the rows of a file in the form of `write_ranking`.

    Raises:
        UserError: the end of a query is not clear.
    """
    rows = []
    for number, line in lines:
        query, names = split_line(line, f"{name}, line {number}")
        ranked = tuple(part.strip() for part in names.split(",") if part.strip())
        rows.append(RankingRow(number, query, ranked))
    return rows


def collect_rows(rows: Iterable[RankingRow], name: str) -> dict[str, tuple[str, ...]]:
    """Return query name to gallery names.

    Raises:
        UserError: a query has two rows, or a name is twice in one.
    """
    ranking: dict[str, tuple[str, ...]] = {}
    for row in rows:
        where = f"{name}, line {row.line}"
        if row.query in ranking:
            raise UserError(
                f"{where}: query {row.query!r} has an earlier line; keep one of them, "
                "or write all its names in one line"
            )
        if len(set(row.names)) < len(row.names):
            twice = next(part for part, count in Counter(row.names).items() if count > 1)
            raise UserError(f"{where}: {twice!r} is ranked twice; keep one of them")
        ranking[row.query] = row.names
    return ranking


def split_line(line: str, where: str) -> tuple[str, str]:
    """Return the query of a line, and the text after its colon.

    Args:
        line: the line.
        where: file and line, for the message of an error.

    Raises:
        UserError: the end of the query is not clear.
    """
    spaced = _COLON_BEFORE_SPACE.search(line)
    if not spaced and line.count(":") > 1:
        raise UserError(
            f"{where}: several colons and none before a space, so that it is not clear where the "
            f"query ends; write `query: name, name`, found {line[:60]!r}"
        )
    end = spaced.start() if spaced else line.find(":")
    query = line[: max(end, 0)].rstrip()
    if not query or "," in query:
        raise UserError(f"{where}: expected `query: name, name`, found {line[:60]!r}")
    return query, line[end + 1 :]
