"""`reid_test.txt`: for each query the gallery images that resemble it most, the best first."""

import re
from collections.abc import Iterable, Mapping, Sequence

from reidray.errors import UserError

FORBIDDEN = (",", '"', ": ")
_COLON_BEFORE_SPACE = re.compile(r":(?=\s|$)")


def check_names(names: Iterable[str]) -> None:
    """Refuse a file name that the output files cannot carry.

    Names are separated by commas, the query from them by a colon and a space, and the attribute
    file is not quoted. A name that is not UTF-8 cannot be written at all.

    Raises:
        UserError: names the first such file.
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
    """The file's bytes: a line for each query, sorted by name.

    Args:
        ranking: query name to gallery names, the best first; a query without any has a line too.

    Raises:
        UserError: a name cannot stand in the file.
    """
    lines = []
    for query in sorted(ranking):
        check_names((query, *ranking[query]))
        names = f" {', '.join(ranking[query])}" if ranking[query] else ""
        lines.append(f"{query}:{names}\n")
    return "".join(lines).encode()


def read_ranking(data: bytes, name: str) -> dict[str, tuple[str, ...]]:
    """Query name to gallery names, the best first, in the order of the file.

    Takes what other tools write: CRLF, blank lines, trailing commas, tabs for spaces, no space
    after a comma or after the query's colon. A name may hold a colon; the query then ends at the
    first colon before a space, and a line with several colons and no such space is refused.

    Args:
        data: the file's bytes.
        name: the file's name, for the message of an error.

    Raises:
        UserError: where a line's query ends is not clear, or a query or a name is there twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a UTF-8 text file; expected a ranking") from None
    ranking: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        query, names = _split_line(line.strip(), where)
        if query in ranking:
            raise UserError(f"{where}: query {query!r} has an earlier line; keep one of them")
        ranked = tuple(part.strip() for part in names.split(",") if part.strip())
        if len(set(ranked)) < len(ranked):
            twice = next(part for part in ranked if ranked.count(part) > 1)
            raise UserError(f"{where}: {twice!r} is ranked twice; keep one of them")
        ranking[query] = ranked
    return ranking


def _split_line(line: str, where: str) -> tuple[str, str]:
    """A line's query, and all that follows its colon."""
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
