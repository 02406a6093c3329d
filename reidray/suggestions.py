"""Guess what a mistyped name meant, and shorten values to fit a line."""

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.72
"""The least similarity of two names, between 0 and 1, at which one is taken for the other."""

MOST_NAMED = 20
LONGEST_VALUE = 80


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a name, or None where none is near.

    A known name with dots may be meant by its last part.
    """
    names = list(known)
    meant = {each.rpartition(".")[2]: each for each in names} | {each: each for each in names}
    found = get_close_matches(name[:LONGEST_VALUE], meant, n=1, cutoff=NEAR)
    return meant[found[0]] if found else None


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name: the nearest that is known, or a choice."""
    names = list(known)
    near = closest_name(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    more = f" or {len(names) - MOST_NAMED} others" if len(names) > MOST_NAMED else ""
    return f"choose one of {', '.join(names[:MOST_NAMED])}{more}"


def quoted(value: object) -> str:
    """Return the representation of a value, cut where it is long."""
    text = value if isinstance(value, str) else _short_repr(value)
    cut = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
    return repr(cut) if isinstance(value, str) else cut


def _short_repr(value: object) -> str:
    """Return what a value holds, or of many values what kind they are."""
    if isinstance(value, dict):
        return f"{len(value)} keys" if len(value) > 3 else "keys of its own"
    if isinstance(value, list | tuple | set):
        return f"{len(value)} values" if len(value) > 3 else f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of too many digits"
    return repr(value)
