"""Read ratings and films from the two CSV files of MovieLens."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from reidray.errors import UserError

LOWEST, HIGHEST = 0.5, 5.0
WHOLE_NUMBER = r"^-?[0-9]{1,18}$"
DECIMAL = r"^[0-9]*\.?[0-9]+$"


@dataclass(frozen=True, eq=False)
class Ratings:
    """Hold ratings and films.

    Attributes:
        table: a row for each rating: `user` int64, `film` int64, `rating` float64 in 0.5..5.
            A user rates a film once, and every film is in `films`.
        films: a row for each film: `film` int64, `title` string, `genres` list of strings, with
            MovieLens's `(no genres listed)` as a genre. At least one rated film has a genre.
        notes: irregularities in the files that did not stop the job, one line each.
    """

    table: pa.Table
    films: pa.Table
    notes: tuple[str, ...] = ()

    def count_genres(self) -> dict[str, int]:
        """Return the number of films of each genre, the most frequent genre first."""
        counts = pc.value_counts(pc.list_flatten(self.films["genres"])).to_pylist()
        return {
            each["values"]: each["counts"]
            for each in sorted(counts, key=lambda each: (-each["counts"], each["values"]))
        }


def read_ratings(ratings_file: str, movies_file: str) -> Ratings:
    """Read ratings and films from two CSV files.

    Ratings of films that the movies file lacks have neither genre nor title. They are left out, and
    a note counts them.

    Raises:
        UserError: a file is missing or lacks a column, a value is not valid, a user rates a film
            twice, or no rated film has a genre.
    """
    films = _read_films(movies_file)
    table = _read_table(ratings_file, ("userId", "movieId", "rating"))
    if not table.num_rows:
        raise UserError(f"{ratings_file}: holds no ratings; expected one line per rating")
    ratings = pa.table(
        {
            "user": _whole_numbers(table, "userId", ratings_file),
            "film": _whole_numbers(table, "movieId", ratings_file),
            "rating": _stars(table, "rating", ratings_file),
        }
    )
    _check_unique(ratings, ("user", "film"), ratings_file)
    known = pc.is_in(ratings["film"], value_set=films["film"])
    unknown = ratings.filter(pc.invert(known))
    ratings = ratings.filter(known)
    rated = films.filter(pc.is_in(films["film"], value_set=ratings["film"]))
    if not pc.any(pc.greater(pc.list_value_length(rated["genres"]), 0)).as_py():
        raise UserError(
            f"{movies_file}: gives no film of {ratings_file} a genre; expected genres such as "
            "Comedy|Drama, and the two files of one data set"
        )
    notes = []
    if unknown.num_rows:
        notes.append(
            f"{ratings_file}: {unknown.num_rows:,} ratings left out, of films that {movies_file} "
            f"lacks (the first is film {unknown['film'][0]})"
        )
    return Ratings(ratings, films, tuple(notes))


def _read_films(file: str) -> pa.Table:
    table = _read_table(file, ("movieId", "title", "genres"))
    ids = _whole_numbers(table, "movieId", file)
    genres = [
        sorted({genre.strip() for genre in text.split("|")} - {""})
        for text in table["genres"].to_pylist()
    ]
    films = pa.table(
        {"film": ids, "title": table["title"], "genres": pa.array(genres, pa.list_(pa.string()))}
    )
    _check_unique(films, ("film",), file)
    return films


def _read_table(file: str, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a CSV file as text without surrounding spaces."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{file}: there is no such file; check the name")
    try:
        table = pyarrow.csv.read_csv(
            path,
            # With one thread, an error names its line.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string())
            ),
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = ascii(" ".join(str(error).split())[:100])[1:-1]
        raise UserError(
            f"{file}: not a readable CSV ({reason}); expected the columns {', '.join(columns)}"
        ) from None
    missing = [name for name in columns if table.column_names.count(name) != 1]
    if missing:
        found = ascii(", ".join(table.column_names)[:160])[1:-1]
        raise UserError(
            f"{file}: expected one column {missing[0]!r}, found {found}; "
            "name it so in the first line"
        )
    return pa.table({name: pc.utf8_trim_whitespace(table[name]) for name in columns})


def _whole_numbers(table: pa.Table, column: str, file: str) -> pa.ChunkedArray:
    is_valid = pc.match_substring_regex(table[column], WHOLE_NUMBER)
    _check_all_valid(table, column, is_valid, file, "a whole number")
    return table[column].cast(pa.int64())


def _stars(table: pa.Table, column: str, file: str) -> pa.ChunkedArray:
    numeric = pc.match_substring_regex(table[column], DECIMAL)
    stars = pc.if_else(numeric, table[column], "0").cast(pa.float64())
    is_valid = pc.and_(pc.greater_equal(stars, LOWEST), pc.less_equal(stars, HIGHEST))
    _check_all_valid(table, column, is_valid, file, f"a number from {LOWEST} to {HIGHEST:g}")
    return stars


def _check_all_valid(
    table: pa.Table, column: str, is_valid: pa.ChunkedArray, file: str, wanted: str
) -> None:
    """Check that all values of a column are valid.

    Raises:
        UserError: a value is not valid; the message names the first one.
    """
    row = pc.index(is_valid, False).as_py()
    if row >= 0:
        raise UserError(
            f"{file}, line {_line(file, row)}: {column} is {table[column][row].as_py()!r}, "
            f"expected {wanted}; correct the line or remove it"
        )


def _check_unique(table: pa.Table, columns: Sequence[str], file: str) -> None:
    """Check that no two rows have the same values in some columns.

    Raises:
        UserError: rows have the same values; the message names the first repeated row.
    """
    keys = [table[name].to_numpy() for name in columns]
    order = np.lexsort(keys)
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if same.any():
        again = order[1:][same].min()
        first = np.logical_and.reduce([key == key[again] for key in keys]).argmax()
        what = ", ".join(f"{name} {key[again]}" for name, key in zip(columns, keys, strict=True))
        raise UserError(
            f"{file}, line {_line(file, again)}: {what} occurs twice, first in line "
            f"{_line(file, first)}; keep one of the two"
        )


def _line(file: str, row: int) -> int:
    """Return the line number, from 1, of a row, from 0 below the header."""
    with Path(file).open("rb") as lines:
        filled = (number for number, line in enumerate(lines, start=1) if line.strip(b"\r\n"))
        return next(islice(filled, row + 1, None))
