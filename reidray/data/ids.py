"""Number the people and cameras of a data set, and keep the names for which the numbers stand.

A text of digits, or `-1`, is a number if it fits into 64 bits. Any other text is a name. If all ids
of a data set are numbers, they stay. Otherwise all ids are names, and are numbered from 1.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal

from reidray.errors import UserError

PERSON_IDS_FILE = "person_ids.json"
CAMERA_IDS_FILE = "camera_ids.json"
MAX_PERSON_ID, MAX_CAMERA_ID = 2**63 - 1, 2**15 - 1
NO_NAMES: Mapping[str, int] = {}
EXACT_INTEGER_LIMIT = {16: 2**11, 32: 2**24, 64: 2**53}
"""The limit below which floats of 16, 32 or 64 bits hold every whole number."""

# The texts that pandas reads as missing, so that a table has the same meaning here.
MISSING_VALUES = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
        *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)

_DIGITS = re.compile(r"-1|0*[0-9]{1,19}")
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?|[eE][+-][0-9]+)")


def parse_id_number(text: str) -> int | None:
    """Parse an id that is a number; return None for a name.

    >>> [parse_id_number(text) for text in ("0012", "-1", "1_2", "9" * 20)]
    [12, -1, None, None]
    """
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_PERSON_ID else None


def parse_id(value: object, float_bits: int = 64) -> str | None:
    """Return the text of an id in a cell of a table, or None if it is missing.

    A float, or the text of one, must be a whole number that floats hold exactly: below 2^53, or
    below 2^24 for floats of 32 bits. A text such as `2.02E+11`, into which spreadsheets shorten
    numbers, may have lost digits and is an error.

    Args:
        value: the cell.
        float_bits: the width of the floats of the column: 16, 32 or 64.

    >>> parse_id("0012"), parse_id(12.0), parse_id("12.0"), parse_id("anna"), parse_id("nan")
    ('0012', '12', '12', 'anna', None)

    Raises:
        ValueError: the cell is a float that is not whole or not exact, a text with an exponent, or
            neither a number nor a text.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{value!r}, expected a whole number or a name")
    text = str(value).strip()
    if text in MISSING_VALUES:
        return None
    if not isinstance(value, float) and not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if not number.is_integer() or abs(number) >= EXACT_INTEGER_LIMIT[float_bits]:
        power = EXACT_INTEGER_LIMIT[float_bits].bit_length() - 1
        raise ValueError(
            f"{text}, which is no whole number that a float of {float_bits} bits holds exactly "
            f"(below 2^{power}): write ids as whole numbers or as text"
        )
    if not isinstance(value, float) and "e" in text.lower():
        raise ValueError(
            f"{text}, which may have lost digits: write ids as whole numbers or as text"
        )
    return str(int(number))


def number_person_ids(names: Iterable[str], source: str) -> dict[str, int]:
    """Return the number of each person.

    If all ids are numbers, they stay. Otherwise the sorted names are numbered from 1; `-1` stays
    junk, and `0` or `0000` stay distractors.

    >>> number_person_ids(["0002", "7"], "a.csv")
    {'0002': 2, '7': 7}
    >>> number_person_ids(["ben", "anna", "7"], "a.csv")
    {'7': 1, 'anna': 2, 'ben': 3}

    Args:
        names: the ids as folders, files or tables contain them.
        source: the folder or file, for the message of an error.

    Raises:
        UserError: two ids are the same number, such as `007` and `7`, or the same name in two forms
            of Unicode.
    """
    return _number(set(names), f"{source}: person", MAX_PERSON_ID)


def number_camera_ids(names: Iterable[str], source: str) -> dict[str, int]:
    """Return the number of each camera, which stays if all ids are numbers of at most 16 bits.

    Args:
        names: the ids as folders, files or tables contain them.
        source: the folder or file, for the message of an error.

    Raises:
        UserError: two ids are the same number, or there are more than a manifest can hold.
    """
    numbers = _number(set(names), f"{source}: camera", MAX_CAMERA_ID)
    if max(numbers.values(), default=0) > MAX_CAMERA_ID:
        raise UserError(f"{source}: names {len(numbers)} cameras, expected {MAX_CAMERA_ID} at most")
    return numbers


def nontrivial_names(numbers: Mapping[str, int]) -> Mapping[str, int]:
    """Return the sorted numbers of all names; empty if every name is its own number."""
    if all(parse_id_number(name) == number for name, number in numbers.items()):
        return NO_NAMES
    return dict(sorted(numbers.items(), key=lambda item: (item[1], item[0])))


def describe_names(person_ids: Mapping[str, int], camera_ids: Mapping[str, int]) -> list[str]:
    """Return a note on each kind of id that has names."""
    notes = []
    for kind, numbers in (("people", person_ids), ("cameras", camera_ids)):
        named = [name for name, number in numbers.items() if number > 0]
        if named:
            noun = "name" if len(named) == 1 else "names"
            first = f"{named[0]!r} is {numbers[named[0]]}"
            notes.append(f"{kind}: {len(named)} {noun}, numbered from 1 ({first})")
    special = {-1: "junk", 0: "distractors"}
    for name, number in person_ids.items():
        if number in special:
            notes.append(f"person {name!r} beside names: counts as {special[number]}")
    return notes


def id_name_files(person_ids: Mapping[str, int], camera_ids: Mapping[str, int]) -> dict[str, str]:
    """Return the JSON files that map names of people and cameras to their numbers.

    Returns:
        The text of each file by its name; no file for ids that are numbers.
    """
    files = {PERSON_IDS_FILE: person_ids, CAMERA_IDS_FILE: camera_ids}
    return {
        file: json.dumps(dict(numbers), indent=2) + "\n"
        for file, numbers in files.items()
        if numbers
    }


def _number(names: set[str], what: str, most: int) -> dict[str, int]:
    own = {name: parse_id_number(name) for name in sorted(names)}
    numbers = {name: number for name, number in own.items() if number is not None}
    first: dict[int, str] = {}
    for name, number in numbers.items():
        if number > 0 and first.setdefault(number, name) != name:
            raise UserError(
                f"{what}s {first[number]!r} and {name!r} are the same number; "
                "rename one, or write both alike"
            )
    forms: dict[str, str] = {}
    for name in sorted(names):
        plain = unicodedata.normalize("NFC", name)
        if forms.setdefault(plain, name) != name:
            raise UserError(
                f"{what}s {forms[plain]!r} and {name!r} are one name, whose letters are written in "
                "two ways of Unicode (NFC and NFD): write both alike"
            )
    if len(numbers) == len(own) and max(numbers.values(), default=0) <= most:
        return numbers
    numbers = {name: number for name, number in numbers.items() if number <= 0}
    named = sorted(own.keys() - numbers.keys())
    return numbers | {name: number for number, name in enumerate(named, start=1)}
