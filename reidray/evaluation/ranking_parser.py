"""Read rankings, and truths, in the forms in which other tools write them."""

import ast
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from reidray.errors import UserError
from reidray.scoring.ranking_file import (
    RankingRow,
    numbered_lines,
    plain_rows,
    split_line,
)

PLAIN = "query: name, name"

_SEPARATORS = {",": ",", ";": ";", "\t": "<tab>", " ": "<space>"}
_HEADERS = frozenset(
    ("query", "queries", "query_name", "query_path", "query_id", "image", "file", "filename", "id")
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SCORED = re.compile(rf"(?P<name>.+?)(?:\s*[:=|]\s*|\s+|(?=\())\(?(?P<score>{_NUMBER.pattern})\)?")
# What no name of another form holds: it would be the separator of yet another one.
_FOREIGN = re.compile(r"[,;\t\"\[\]{}]")
_DOUBTFUL = re.compile(r"[\s;\"'\[\](){}:=|]")

_OBJECT = re.compile(r"\{\s*(?:[\"']|\}?$)|\[\s*(?:[\[{(\"']|$)")

Lines = Sequence[tuple[int, str]]


@dataclass(frozen=True)
class ParseCandidate:
    """A file as one of the forms has it.

    Attributes:
        form: what a line looks like.
        rows: the lines.
    """

    form: str
    rows: tuple[RankingRow, ...]

    def check_scores(self, name: str) -> None:
        """Refuse a ranking whose scores are in no order, so that it is not clear who is best.

        Raises:
            UserError: names the line.
        """
        falls = rises = False
        for row in self.rows:
            falls |= any(first > second for first, second in pairwise(row.scores))
            rises |= any(first < second for first, second in pairwise(row.scores))
            if falls and rises:
                raise UserError(
                    f"{name}, line {row.line}: the numbers beside the names rise here and fall "
                    "elsewhere, so that it is not clear which name is the best; sort them"
                )


def parse_candidates(data: bytes, name: str) -> list[ParseCandidate]:
    """The readings of a file of rankings, or of a truth, that its text allows.

    A name may hold a semicolon or a space, so that the text alone does not always tell the form.
    The form of `write_ranking` comes first.

    Args:
        data: the file's bytes.
        name: the file's name, for the message of an error.

    Returns:
        One or more; that rows are there twice is not looked for.

    Raises:
        UserError: no form fits; the message is that of the form of `write_ranking`.
    """
    lines = numbered_lines(data, name)
    if lines and _OBJECT.match(lines[0][1]):
        found = _read_json("\n".join(line for _, line in lines), name)
        if found is None:
            raise UserError(
                f"{name}: begins like JSON or Python and is not one JSON object; write "
                '{"query": ["name", "name"], ...}, or a line `query: name, name` for each query'
            )
        return [found]
    without_comments = [line for line in lines if not line[1].startswith("#")]
    if not 0 < len(without_comments) < len(lines):
        return _read_lines_alike(lines, name)
    forms = [
        replace(form, form=f"{form.form}, without the lines that begin with #")
        for form in _read_lines_alike(without_comments, name)
    ]
    try:
        return _read_lines_alike(lines, name) + forms
    except UserError:
        return forms


def _read_lines_alike(lines: Lines, name: str) -> list[ParseCandidate]:
    """The readings of lines that are all of one form.

    Raises:
        UserError: no form fits.
    """
    try:
        plain = ParseCandidate(PLAIN, tuple(plain_rows(lines, name)))
    except UserError:
        forms = [form for form in _line_forms(lines) if form is not None]
        if not forms:
            raise
        return forms
    if any(map(_is_doubtful, {token for row in plain.rows for token in (row.query, *row.names)})):
        return [plain, *(form for form in _line_forms(lines) if form is not None)]
    return [plain]


def _is_doubtful(token: str) -> bool:
    """Tell whether a name may be more than a name, or none."""
    return _DOUBTFUL.search(token) is not None or _NUMBER.fullmatch(token) is not None


def _read_json(text: str, name: str) -> ParseCandidate | None:
    """An object, query to list of names or of names with scores; None where it is none.

    Raises:
        UserError: it is an object of another kind, or has a query twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            queries = [query for query, _ in pairs]
            twice = next(query for query in queries if queries.count(query) > 1)
            raise UserError(f"{name}: query {twice!r} is there twice; keep one of them")
        return entries

    try:
        entries = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, dict):
        return None
    rows = []
    for query, names in entries.items():
        row = _listed(1, query, names)
        if row is None:
            raise UserError(f"{name}: query {query!r} has no list of gallery names")
        rows.append(row)
    return ParseCandidate("JSON object, query to list of names", tuple(rows))


def _line_forms(lines: Lines) -> Iterator[ParseCandidate | None]:
    """The forms that a file may have beside the first, None for each that it has not."""
    text = "\n".join(line for _, line in lines)
    if "[" in text:
        yield _read_lines(lines, "query: [names]", _bracketed)
    for separator, shown in _SEPARATORS.items():
        if separator not in text:
            continue
        forms = (
            (f"query: name{shown}name", _after_colon(separator)),
            (f"query{shown}name{shown}name", _delimited(separator)),
        )
        for form, read in forms:
            found = _read_lines(lines, form, read)
            if found is None:
                continue
            if form.startswith("query:"):
                yield found
            else:
                found = _without_header(found)
                yield _merged(found)
            scored = _with_scores(found)
            yield scored if scored is None or form.startswith("query:") else _merged(scored)


def _read_lines(
    lines: Lines, form: str, read: Callable[[int, str], RankingRow | None]
) -> ParseCandidate | None:
    rows = []
    for number, line in lines:
        try:
            row = read(number, line)
        except (UserError, ValueError, SyntaxError, RecursionError, MemoryError, csv.Error):
            return None
        if row is None or not all(map(_may_be_name, (row.query, *row.names))):
            return None
        rows.append(row)
    return ParseCandidate(form, tuple(rows))


def _may_be_name(text: str) -> bool:
    """Tell whether a text holds a letter or a digit, as `->` does not, and no separator."""
    return _FOREIGN.search(text) is None and re.search(r"\w", text) is not None


def _after_colon(separator: str) -> Callable[[int, str], RankingRow]:
    def read(number: int, line: str) -> RankingRow:
        query, names = split_line(line, "")
        return RankingRow(number, _unquoted(query), tuple(_tokens(names, separator)))

    return read


def _delimited(separator: str) -> Callable[[int, str], RankingRow]:
    def read(number: int, line: str) -> RankingRow:
        query, *names = _tokens(line, separator)
        return RankingRow(number, query, tuple(names))

    return read


def _bracketed(number: int, line: str) -> RankingRow | None:
    query, names = split_line(line, "")
    return _listed(number, _unquoted(query), ast.literal_eval(names.strip()))


def _listed(number: int, query: str, names: object) -> RankingRow | None:
    """A list of names, or of pairs of name and score; None where it is something else."""
    if not isinstance(names, list | tuple):
        return None
    if all(isinstance(name, str) for name in names):
        return RankingRow(number, query, tuple(names))
    pairs = [pair for pair in names if isinstance(pair, list | tuple) and len(pair) == 2]
    scored = [
        (name, float(score))
        for name, score in pairs
        if isinstance(name, str) and isinstance(score, int | float)
    ]
    if len(scored) < len(names):
        return None
    return RankingRow(
        number, query, tuple(name for name, _ in scored), tuple(score for _, score in scored)
    )


def _tokens(text: str, separator: str) -> list[str]:
    if separator == " ":
        parts = text.split()
    elif '"' in text:
        parts = next(csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True))
    else:
        parts = text.split(separator)
    return [_unquoted(part.strip()) for part in parts if part.strip()]


def _unquoted(text: str) -> str:
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _without_header(found: ParseCandidate) -> ParseCandidate:
    rows = found.rows
    if len(rows) > 1 and rows[0].query.lower() in _HEADERS:
        return replace(found, form=f"{found.form}, with a header", rows=rows[1:])
    return found


def _merged(found: ParseCandidate) -> ParseCandidate:
    """The same with a row for each query, where each row has one name and queries come again."""
    rows = found.rows
    if any(len(row.names) != 1 for row in rows) or len({r.query for r in rows}) == len(rows):
        return found
    together: dict[str, list[RankingRow]] = {}
    for row in rows:
        together.setdefault(row.query, []).append(row)
    merged = tuple(
        RankingRow(
            same[0].line,
            query,
            tuple(row.names[0] for row in same),
            tuple(score for row in same for score in row.scores),
        )
        for query, same in together.items()
    )
    return ParseCandidate(f"{found.form}, a line for each pair", merged)


def _with_scores(found: ParseCandidate) -> ParseCandidate | None:
    """The same with a number after each name taken for its score; None where some has none."""
    rows = []
    for row in found.rows:
        pairs = _scored(row.names)
        if pairs is None:
            return None
        names, scores = zip(*pairs, strict=True) if pairs else ((), ())
        rows.append(replace(row, names=names, scores=scores))
    if not any(row.names for row in rows):
        return None
    return ParseCandidate(f"{found.form}, with scores", tuple(rows))


def _scored(tokens: Sequence[str]) -> list[tuple[str, float]] | None:
    names, numbers = tokens[::2], tokens[1::2]
    if len(names) == len(numbers) and all(_NUMBER.fullmatch(number) for number in numbers):
        return [(name, float(number)) for name, number in zip(names, numbers, strict=True)]
    found = [_SCORED.fullmatch(token) for token in tokens]
    return [(f["name"], float(f["score"])) for f in found if f] if all(found) else None
