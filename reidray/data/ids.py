"""Names of people and cameras, and the numbers that a manifest holds in their place.

A text of `[0-9]+`, or `-1`, is a number where 64 bits hold it. All else is a name. A set all of
whose ids are numbers keeps them; in any other every id is a name, and names are numbered from 1.
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
"""Floats of 16, 32 or 64 bits hold each whole number below this."""

# What pandas reads as missing, so that a table means the same here.
MISSING_VALUES = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
        *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)

_DIGITS = re.compile(r"-1|0*[0-9]{1,19}")
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?|[eE][+-][0-9]+)")


def parse_id_number(text: str) -> int | None:
    """Return the number that a text is, or None where it is a name.

    >>> [parse_id_number(text) for text in ("0012", "-1", "1_2", "9" * 20)]
    [12, -1, None, None]
    """
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_PERSON_ID else None


def parse_id(value: object, float_bits: int = 64) -> str | None:
    """Return the text of an id in a table, or None where it is missing.

    A float, or a text that looks like one, is read where it is a whole number that a float holds
    exactly: below 2^53, or below 2^24 where floats have 32 bits. A text such as `2.02E+11`, as
    spreadsheets shorten numbers, may have lost digits and is refused.

    Args:
        value: a cell.
        float_bits: of the column's type, 16, 32 or 64.

    >>> parse_id("0012"), parse_id(12.0), parse_id("12.0"), parse_id("anna"), parse_id("nan")
    ('0012', '12', '12', 'anna', None)

    Raises:
        ValueError: a float that is not whole or not exact, a text with an exponent, or neither a
            number nor a text.
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

    Where all names are numbers, each is its own. Otherwise names are numbered from 1,
    sorted; beside names `-1` is junk and `0` or `0000` are distractors, as elsewhere.

    Args:
        names: as folders, files or tables have them.
        source: where they come from, for the message of an error.

    Raises:
        UserError: two of them are one number, such as `007` and `7`, or one name in two forms of
            Unicode.
    """
    return _number(set(names), f"{source}: person", MAX_PERSON_ID)


def number_camera_ids(names: Iterable[str], source: str) -> dict[str, int]:
    """Return the number of each camera: its own where all are numbers that 16 bits hold.

    Args:
        names: as files or tables have them.
        source: where they come from, for the message of an error.

    Raises:
        UserError: two of them are one number, or there are more than a manifest can hold.
    """
    numbers = _number(set(names), f"{source}: camera", MAX_CAMERA_ID)
    if max(numbers.values(), default=0) > MAX_CAMERA_ID:
        raise UserError(f"{source}: names {len(numbers)} cameras, expected {MAX_CAMERA_ID} at most")
    return numbers


def nontrivial_names(numbers: Mapping[str, int]) -> Mapping[str, int]:
    """Return the numbers where some name is not its own number, and else nothing."""
    if all(parse_id_number(name) == number for name, number in numbers.items()):
        return NO_NAMES
    return dict(sorted(numbers.items(), key=lambda item: (item[1], item[0])))


def describe_names(person_ids: Mapping[str, int], camera_ids: Mapping[str, int]) -> list[str]:
    """Return a line on each kind of id that was numbered anew."""
    notes = []
    for kind, numbers in (("people", person_ids), ("cameras", camera_ids)):
        named = [name for name, number in numbers.items() if number > 0]
        if named:
            notes.append(
                f"{kind}: {len(named)} names, numbered from 1 ({named[0]!r} is {numbers[named[0]]})"
            )
    taken = {-1: "junk", 0: "distractors"}
    for name, number in person_ids.items():
        if number in taken:
            notes.append(f"person {name!r} beside names: taken for {taken[number]}")
    return notes


def id_name_files(person_ids: Mapping[str, int], camera_ids: Mapping[str, int]) -> dict[str, str]:
    """Return the JSON files, by name, that say which number stands for which name.

    Ids that are numbers themselves need none.
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
