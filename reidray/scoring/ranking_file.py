"""`reid_test.txt`: for each query the gallery images that resemble it most, the best first."""

from collections.abc import Iterable, Mapping, Sequence

from reidray.errors import UserError

FORBIDDEN = (",", '"', ": ")


def check_names(names: Iterable[str]) -> None:
    """Refuse a file name that the output files cannot carry.

    Names are separated by commas, the query from them by a colon and a space, and the attribute
    file is not quoted.

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
                "quotes, a colon before a space, line breaks, and spaces at either end"
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

    Takes what other tools write: CRLF, blank lines, trailing commas, no space after a comma.

    Args:
        data: the file's bytes.
        name: the file's name, for the message of an error.

    Raises:
        UserError: a line has no query, or a query or one of its names is there twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a UTF-8 text file; expected a ranking") from None
    ranking: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        query, colon, rest = f"{line.strip()} ".partition(": ")
        where = f"{name}, line {number}"
        if not colon or not query:
            raise UserError(f"{where}: expected `query: name, name`, found {line.strip()[:60]!r}")
        if query in ranking:
            raise UserError(f"{where}: query {query!r} has an earlier line; keep one of them")
        ranked = tuple(part.strip() for part in rest.split(",") if part.strip())
        if len(set(ranked)) < len(ranked):
            twice = next(part for part in ranked if ranked.count(part) > 1)
            raise UserError(f"{where}: {twice!r} is ranked twice; keep one of them")
        ranking[query] = ranked
    return ranking
