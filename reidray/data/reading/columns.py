"""Read columns of tables that people and pandas write: ids and whole numbers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.ids import MISSING_VALUES, NO_NAMES, parse_id
from reidray.errors import UserError


@dataclass(frozen=True)
class IdColumn:
    """Hold a column of ids as numbers.

    Attributes:
        values: int64 numbers, null where an id is missing.
        numbers: the number of each name in the column; empty for integers.
    """

    values: pa.ChunkedArray
    numbers: Mapping[str, int]


def read_ids(
    column: pa.ChunkedArray,
    file: str,
    name: str,
    number: Callable[[Iterable[str], str], dict[str, int]],
    most: int,
) -> IdColumn:
    """Return a column of ids, numbers or names, as numbers.

    A column of integers from -1 to `most` stays as it is.

    Args:
        column: a column of texts or numbers.
        file: the name of the file, for the message of an error.
        name: the name of the column, for the message of an error.
        number: `number_person_ids` or `number_camera_ids`.
        most: the largest number that an id can be.

    Raises:
        UserError: a value is no id, or two names are the same number.
    """
    if pa.types.is_dictionary(column.type):  # its dictionary may hold values that no row has
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type) and _are_numbers(column, most):
        return IdColumn(column.cast(pa.int64()), NO_NAMES)
    encoded = column.dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a column without rows
        encoded = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.null()))
    bits = column.type.bit_width if pa.types.is_floating(column.type) else 64
    texts: list[str | None] = []
    for code, value in enumerate(encoded.dictionary.to_pylist()):
        try:
            texts.append(parse_id(value, bits))
        except ValueError as error:
            row = pc.index(encoded.indices, code).as_py()
            raise UserError(f"{file}, row {row + 1}: {name} is {error}") from None
    numbers = number({text for text in texts if text is not None}, file)
    values = pa.array([None if text is None else numbers[text] for text in texts], pa.int64())
    return IdColumn(pa.chunked_array([values.take(encoded.indices)]), numbers)


def _are_numbers(column: pa.ChunkedArray, most: int) -> bool:
    """Return whether all integers of a column are ids that stay as they are."""
    least, largest = pc.min_max(column).as_py().values()
    return least is None or (least >= -1 and largest <= most)


def read_whole_numbers(column: pa.ChunkedArray, file: str, name: str) -> pa.ChunkedArray:
    """Return a column as int64. Floats must be whole numbers; NaN becomes null.

    Args:
        column: a column of numbers.
        file: the name of the file, for the message of an error.
        name: the name of the column, for the message of an error.

    Raises:
        UserError: a value is not a whole number; the message names its row.
    """
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.fill_null(pc.equal(pc.floor(column), column), True)
        if not pc.all(whole).as_py():
            row = pc.index(whole, False).as_py()
            raise UserError(
                f"{file}, row {row + 1}: {name} is {column[row].as_py()!r}, expected a whole number"
            )
    try:
        return column.cast(pa.int64())
    except pa.ArrowException as error:
        raise UserError(f"{file}: column {name!r} is not all whole numbers ({error})") from None


def missing_as_null(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts with null in code of each text that pandas reads as missing."""
    missing = pc.is_in(texts, value_set=pa.array(sorted(MISSING_VALUES), pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def missing_note(column: pa.ChunkedArray, file: str, name: str) -> str | None:
    """Return a note on texts such as `NA` in a column, which are read as missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    marks = pa.array(sorted(MISSING_VALUES - {""}), column.type)
    found = column.filter(pc.is_in(column, value_set=marks))
    if not len(found):
        return None
    return f"{file}: {name} is {found[0].as_py()!r} or such in {len(found)} rows: read as missing"
