"""Parse ranking files and truth files in the forms of other tools."""

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
# Separators of other forms, which no name holds.
_FOREIGN = re.compile(r"[,;\t\"\[\]{}]")
_AMBIGUOUS = re.compile(r"[\s;\"'\[\](){}:=|]")

_OBJECT = re.compile(r"\{\s*(?:[\"']|\}?$)|\[\s*(?:[\[{(\"']|$)")

Lines = Sequence[tuple[int, str]]


@dataclass(frozen=True)
class ParseCandidate:
    """Hold one way to parse a file.

    Attributes:
        form: form of a line, for messages.
        rows: the lines.
    """

    form: str
    rows: tuple[RankingRow, ...]

    def check_scores(self, name: str) -> None:
        """Check that the scores fall in every line, or rise in every line.

        Args:
            name: name of the file, for the message of an error.

        Raises:
            UserError: the scores rise and fall, so that the best name is unknown.
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
    """Return the ways to parse a file of rankings, or a truth.

    A name may hold a semicolon or a space, so a text can have several forms.
    The form of `write_ranking` comes first.

    Args:
        data: bytes of the file.
        name: name of the file, for the message of an error.

    Returns:
        One or more. A query may occur in several rows.

    Raises:
        UserError: the file has none of the forms; the message is about the form of
            `write_ranking`.
    """
    lines = numbered_lines(data, name)
    if lines and _OBJECT.match(lines[0][1]):
        found = _parse_json("\n".join(line for _, line in lines), name)
        if found is None:
            raise UserError(
                f"{name}: begins like JSON or Python but is not a JSON object; write "
                '{"query": ["name", "name"], ...}, or a line `query: name, name` for each query'
            )
        return [found]
    without_comments = [line for line in lines if not line[1].startswith("#")]
    if not 0 < len(without_comments) < len(lines):
        return _parse_lines(lines, name)
    forms = [
        replace(form, form=f"{form.form}, without the lines that begin with #")
        for form in _parse_lines(without_comments, name)
    ]
    try:
        return _parse_lines(lines, name) + forms
    except UserError:
        return forms


def _parse_lines(lines: Lines, name: str) -> list[ParseCandidate]:
    """Return the ways to parse lines that all have one form.

    Raises:
        UserError: the lines have none of the forms.
    """
    try:
        plain = ParseCandidate(PLAIN, tuple(plain_rows(lines, name)))
    except UserError:
        forms = [form for form in _parse_other_forms(lines) if form is not None]
        if not forms:
            raise
        return forms
    if any(map(_is_ambiguous, {token for row in plain.rows for token in (row.query, *row.names)})):
        return [plain, *(form for form in _parse_other_forms(lines) if form is not None)]
    return [plain]


def _is_ambiguous(token: str) -> bool:
    """Return whether a name may be several names, or a number."""
    return _AMBIGUOUS.search(token) is not None or _NUMBER.fullmatch(token) is not None


def _parse_json(text: str, name: str) -> ParseCandidate | None:
    """Return the rows of a JSON object, query to list of names; None for other texts.

    Raises:
        UserError: the object has other values, or a query occurs twice.
    """

    def check_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            queries = [query for query, _ in pairs]
            twice = next(query for query in queries if queries.count(query) > 1)
            raise UserError(f"{name}: query {twice!r} occurs twice; keep one of them")
        return entries

    try:
        entries = json.loads(text, object_pairs_hook=check_unique)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, dict):
        return None
    rows = []
    for query, names in entries.items():
        row = _row_of_list(1, query, names)
        if row is None:
            raise UserError(f"{name}: query {query!r} has no list of gallery names")
        rows.append(row)
    return ParseCandidate("JSON object, query to list of names", tuple(rows))


def _parse_other_forms(lines: Lines) -> Iterator[ParseCandidate | None]:
    """Yield the ways to parse lines in the other forms; None for a form that they do not have."""
    text = "\n".join(line for _, line in lines)
    if "[" in text:
        yield _parse_form(lines, "query: [names]", _bracketed)
    for separator, shown in _SEPARATORS.items():
        if separator not in text:
            continue
        forms = (
            (f"query: name{shown}name", _after_colon(separator)),
            (f"query{shown}name{shown}name", _delimited(separator)),
        )
        for form, read in forms:
            found = _parse_form(lines, form, read)
            if found is None:
                continue
            if form.startswith("query:"):
                yield found
            else:
                found = _drop_header(found)
                yield _merge_rows(found)
            scored = _split_scores(found)
            yield scored if scored is None or form.startswith("query:") else _merge_rows(scored)


def _parse_form(
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
    """Return whether a text holds a letter or a digit and no separator; `->` holds neither."""
    return _FOREIGN.search(text) is None and re.search(r"\w", text) is not None


def _after_colon(separator: str) -> Callable[[int, str], RankingRow]:
    def read(number: int, line: str) -> RankingRow:
        query, names = split_line(line, "")
        return RankingRow(number, _unquote(query), tuple(_split(names, separator)))

    return read


def _delimited(separator: str) -> Callable[[int, str], RankingRow]:
    def read(number: int, line: str) -> RankingRow:
        query, *names = _split(line, separator)
        return RankingRow(number, query, tuple(names))

    return read


def _bracketed(number: int, line: str) -> RankingRow | None:
    query, names = split_line(line, "")
    return _row_of_list(number, _unquote(query), ast.literal_eval(names.strip()))


def _row_of_list(number: int, query: str, names: object) -> RankingRow | None:
    """Return the row of a list of names, or of pairs of name and score; None for other objects."""
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


def _split(text: str, separator: str) -> list[str]:
    if separator == " ":
        parts = text.split()
    elif '"' in text:
        parts = next(csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True))
    else:
        parts = text.split(separator)
    return [_unquote(part.strip()) for part in parts if part.strip()]


def _unquote(text: str) -> str:
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _drop_header(found: ParseCandidate) -> ParseCandidate:
    rows = found.rows
    if len(rows) > 1 and rows[0].query.lower() in _HEADERS:
        return replace(found, form=f"{found.form}, with a header", rows=rows[1:])
    return found


def _merge_rows(found: ParseCandidate) -> ParseCandidate:
    """Merge the rows of each query, where every row has one name and queries repeat."""
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


def _split_scores(found: ParseCandidate) -> ParseCandidate | None:
    """Read the number after each name as its score; return None where a name has none."""
    rows = []
    for row in found.rows:
        pairs = _score_pairs(row.names)
        if pairs is None:
            return None
        names, scores = zip(*pairs, strict=True) if pairs else ((), ())
        rows.append(replace(row, names=names, scores=scores))
    if not any(row.names for row in rows):
        return None
    return ParseCandidate(f"{found.form}, with scores", tuple(rows))


def _score_pairs(tokens: Sequence[str]) -> list[tuple[str, float]] | None:
    names, numbers = tokens[::2], tokens[1::2]
    if len(names) == len(numbers) and all(_NUMBER.fullmatch(number) for number in numbers):
        return [(name, float(number)) for name, number in zip(names, numbers, strict=True)]
    found = [_SCORED.fullmatch(token) for token in tokens]
    return [(f["name"], float(f["score"])) for f in found if f] if all(found) else None
