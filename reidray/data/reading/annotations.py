"""Read and write `annotations_train.csv`: 27 columns per person, with values from 1.

A row becomes 12 attribute labels, which count from 0: the columns of the colours of a garment form
one attribute.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import (
    LOWER_COLOURS,
    MULTICOLOUR,
    PEDESTRIAN_SCHEMA,
    UNKNOWN,
    UPPER_COLOURS,
)
from reidray.data.ids import NO_NAMES, parse_id, parse_id_number
from reidray.errors import UserError
from reidray.storage.csv_files import escape_formula, unescape_formula, write_csv

_UPPER_COLUMNS = tuple(f"up{colour}" for colour in UPPER_COLOURS)
_LOWER_COLUMNS = tuple(f"down{colour}" for colour in LOWER_COLOURS)
_COLOUR_COLUMNS = {"upper_colour": _UPPER_COLUMNS, "lower_colour": _LOWER_COLUMNS}
_MULTICOLOUR_COLUMNS = {"upper_colour": "upmulticolor", "lower_colour": "downmulticolor"}
_ATTRIBUTE_OF = {
    "age": "age",
    "backpack": "backpack",
    "bag": "bag",
    "handbag": "handbag",
    "clothes": "lower_type",
    "down": "lower_length",
    "up": "sleeve",
    "hair": "hair",
    "hat": "hat",
    "gender": "gender",
}
_SIZES = dict(zip(PEDESTRIAN_SCHEMA.names, PEDESTRIAN_SCHEMA.sizes, strict=True))

ANNOTATION_COLUMNS: tuple[str, ...] = (*_ATTRIBUTE_OF, *_UPPER_COLUMNS, *_LOWER_COLUMNS)
"""The columns after `id`, in the order of the file."""

_UNKNOWN_VALUES = (UNKNOWN,) * len(ANNOTATION_COLUMNS)

_VALUES_OF_LABEL: dict[str, tuple[tuple[int, ...], ...]] = {
    **{
        attribute: tuple((label + 1,) for label in range(_SIZES[attribute]))
        for attribute in _ATTRIBUTE_OF.values()
    },
    **{
        attribute: tuple(
            tuple(2 if label == colour else 1 for colour in range(len(columns)))
            for label in range(_SIZES[attribute])
        )
        for attribute, columns in _COLOUR_COLUMNS.items()
    },
}
"""For each attribute, in the order of the columns, the values of its columns for each label."""


def decode_annotation_row(row: Mapping[str, str], where: str) -> dict[str, int]:
    """Return the attribute labels of one row of an annotation file.

    A row without a colour is `multicolour`, as is a row with `upmulticolor` or `downmulticolor`.
    Unknown columns are ignored.

    Args:
        row: the text of each column, `1` or `2` (age `1` to `4`); `2.0` counts as `2`.
        where: the file and row, for the message of an error.

    Raises:
        UserError: a column is missing, a value is outside its range, or two colours are set.
    """
    labels = {
        attribute: _read_value(row, column, _SIZES[attribute], where) - 1
        for column, attribute in _ATTRIBUTE_OF.items()
    }
    for attribute, columns in _COLOUR_COLUMNS.items():
        labels[attribute] = _read_colour(row, attribute, columns, where)
    return {name: labels[name] for name in PEDESTRIAN_SCHEMA.names}


def encode_annotation_row(labels: Mapping[str, int]) -> tuple[int, ...]:
    """Return the 27 values, from 1, of a person's attribute labels; `multicolour` sets no colour.

    Raises:
        ValueError: a label is outside the schema.
    """
    values: list[int] = []
    for name, values_of_label in _VALUES_OF_LABEL.items():
        label = labels[name]
        if not 0 <= label < len(values_of_label):
            raise ValueError(f"{name} has label {label}, expected 0 to {len(values_of_label) - 1}")
        values += values_of_label[label]
    return tuple(values)


def read_annotations(data: bytes, name: str) -> dict[str, dict[str, int]]:
    """Return the attribute labels of each row of an annotation file, by the text of its `id`.

    The file may have CRLF line ends, trailing commas, `filename` in place of `id`, columns in any
    order, `upmulticolor` and `downmulticolor` columns, and values such as `2.0`, as other tools
    write them. A row of -1 in every column means that nothing is known, and is left out.

    Args:
        data: the bytes of the file.
        name: the name of the file, for the message of an error.

    Raises:
        UserError: the file is not such a table, or one of its rows is wrong or occurs twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a UTF-8 text file; expected a CSV of annotations") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        header = [column.strip() for column in reader.fieldnames or ()]
        reader.fieldnames = header
        key = next((column for column in ("id", "filename") if column in header), None)
        missing = [column for column in (key or "id", *ANNOTATION_COLUMNS) if column not in header]
        if missing:
            raise UserError(f"{name}: columns missing: {', '.join(missing)}; see the first line")
        annotations: dict[str, dict[str, int]] = {}
        for row in reader:
            identity = unescape_formula((row[key or "id"] or "").strip())
            where = f"{name}, line {reader.line_num} (id {identity!r})"
            if not identity:
                raise UserError(f"{where}: the id is empty; give every row one")
            if identity in annotations:
                raise UserError(f"{where}: this id has an earlier row; keep one of them")
            if not _is_unknown(row):
                annotations[identity] = decode_annotation_row(row, where)
    except csv.Error as error:
        raise UserError(f"{name}: not a readable CSV ({error})") from None
    return annotations


def write_annotations(rows: Iterable[tuple[str, Mapping[str, int] | None]]) -> bytes:
    """Return the bytes of an annotation file, with LF line ends.

    An id that a spreadsheet would compute gets an apostrophe before it, as in `write_csv`.

    Args:
        rows: the id and the attribute labels of each row. None in place of the labels writes -1 in
            every column: nothing is known.
    """
    values = (
        (identity, *(_UNKNOWN_VALUES if labels is None else encode_annotation_row(labels)))
        for identity, labels in rows
    )
    return write_csv(("id", *ANNOTATION_COLUMNS), values)


def annotation_lines(
    identities: Sequence[str], labels: NDArray[np.int64], known: NDArray[np.bool_]
) -> bytes:
    """Return the lines of `write_annotations` for many rows, without the names of the columns.

    Args:
        identities: N ids, which need no quotes in a CSV file.
        labels: (N, 12) int64, attribute labels in the order of `PEDESTRIAN_SCHEMA`.
        known: (N,) bool, whether the labels of a row are known; others are -1 in every column.

    Raises:
        ValueError: a label is outside the schema.
    """
    columns = []
    for name, values_of_label in _VALUES_OF_LABEL.items():
        of_attribute = labels[:, PEDESTRIAN_SCHEMA.names.index(name)]
        wrong = known & ((of_attribute < 0) | (of_attribute >= len(values_of_label)))
        if wrong.any():
            label = of_attribute[np.argmax(wrong)]
            raise ValueError(f"{name} has label {label}, expected 0 to {len(values_of_label) - 1}")
        texts = [",".join(map(str, values)) for values in values_of_label]
        unknown = ",".join([str(UNKNOWN)] * len(values_of_label[0]))
        chosen = np.where(known, of_attribute, len(texts))
        columns.append(np.array([*texts, unknown], dtype=object)[chosen].tolist())
    ids = map(escape_formula, identities)
    return "".join(f"{','.join(row)}\n" for row in zip(ids, *columns, strict=True)).encode()


def attribute_columns(
    people: Sequence[int | None],
    annotations: Mapping[str, Mapping[str, int]],
    name: str,
    person_ids: Mapping[str, int] = NO_NAMES,
    *,
    strict: bool,
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Return the attribute columns of some images, with -1 where a person has no annotation.

    Args:
        people: the person of each image; None, junk (-1) and distractors (0) have no annotation.
        annotations: the attribute labels of each person, as `read_annotations` returns them.
        name: the name of the file, for notes and errors.
        person_ids: the numbers of people who have names; an annotation of `2` also matches `0002`.
        strict: whether an annotation without images, or a person without one, is an error.

    Returns:
        The attribute labels of all images by column, and a note for each kind of mismatch.

    Raises:
        UserError: an id is not a number, or occurs twice; or there is a mismatch, and `strict` is
            on.
    """
    by_person: dict[int | str, Mapping[str, int]] = {}
    by_number = {parse_id_number(name): person for name, person in person_ids.items()}
    for identity, labels in annotations.items():
        if not person_ids:
            person: int | str = _number_of(identity, name)
        elif identity in person_ids or (number := parse_id_number(identity)) is None:
            person = person_ids.get(identity, identity)
        else:
            person = by_number.get(number, identity)
        if person in by_person:
            raise UserError(f"{name}: person {person} has two rows; keep one of them")
        by_person[person] = labels
    shown = {person for person in people if person is not None and person > 0}
    notes = tuple(
        f"{name}: {what}: {len(who)} (the first is person {_first(who)})"
        for what, who in (
            ("annotated people without images", by_person.keys() - shown),
            ("people without annotation", shown - by_person.keys()),
        )
        if who
    )
    if strict and notes:
        raise UserError(f"{'; '.join(notes)}; mend the file, or do without the strict check")
    unknown = dict.fromkeys(PEDESTRIAN_SCHEMA.names, UNKNOWN)
    rows = [unknown if person is None else by_person.get(person, unknown) for person in people]
    return {f"attr_{name}": [row[name] for row in rows] for name in PEDESTRIAN_SCHEMA.names}, notes


def _number_of(identity: str, name: str) -> int:
    """Return the number of an annotated person, where all ids are numbers."""
    try:
        number = parse_id_number(parse_id(identity) or "")
    except ValueError as error:
        raise UserError(f"{name}: id is {error}") from None
    if number is None:
        raise UserError(f"{name}: id {identity!r} is not a person's number")
    return number


def _first(people: Collection[int | str]) -> int | str:
    return min(people, key=lambda person: (isinstance(person, str), person))


def _is_unknown(row: Mapping[str, str | None]) -> bool:
    return {(row[column] or "").strip() for column in ANNOTATION_COLUMNS} <= {"-1", "-1.0"}


def _read_value(row: Mapping[str, str], column: str, size: int, where: str) -> int:
    text = row.get(column)
    if text is None:
        raise UserError(f"{where}: column {column!r} is missing, expected 1 to {size}")
    try:
        value = float(text) if text.isascii() and "_" not in text else 0.0
    except ValueError:
        value = 0.0
    if value not in range(1, size + 1):
        raise UserError(f"{where}: {column} is {text!r}, expected a number from 1 to {size}")
    return int(value)


def _read_colour(
    row: Mapping[str, str], attribute: str, columns: tuple[str, ...], where: str
) -> int:
    chosen = [column for column in columns if _read_value(row, column, 2, where) == 2]
    multicolour = _MULTICOLOUR_COLUMNS[attribute]
    if multicolour in row and _read_value(row, multicolour, 2, where) == 2:
        chosen.append(multicolour)
    if len(chosen) > 1:
        raise UserError(
            f"{where}: {' and '.join(chosen)} are both 2, expected one colour at most; "
            f"set none for {MULTICOLOUR}"
        )
    if not chosen or chosen == [multicolour]:
        return len(columns)
    return columns.index(chosen[0])
