"""Suggest a known name for a mistyped one, and shorten values for messages."""

from collections.abc import Iterable
from difflib import get_close_matches

MIN_SIMILARITY = 0.72
"""The least similarity, in 0..1, of a mistyped name to the name that is suggested."""

MAX_NAMES = 20
MAX_VALUE_LENGTH = 80


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a name, or None if none is similar.

    The last part of a known name with dots also stands for the name.
    """
    names = list(known)
    full_names = {each.rpartition(".")[2]: each for each in names} | {each: each for each in names}
    found = get_close_matches(name[:MAX_VALUE_LENGTH], full_names, n=1, cutoff=MIN_SIMILARITY)
    return full_names[found[0]] if found else None


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return advice on a name that does not exist: the most similar name, or the known names."""
    names = list(known)
    near = closest_name(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    more = f" or {len(names) - MAX_NAMES} others" if len(names) > MAX_NAMES else ""
    return f"choose one of {', '.join(names[:MAX_NAMES])}{more}"


def quoted(value: object) -> str:
    """Return the representation of a value, shortened to fit a line."""
    text = value if isinstance(value, str) else _short_repr(value)
    cut = text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 3]}..."
    return repr(cut) if isinstance(value, str) else cut


def _short_repr(value: object) -> str:
    """Return the representation of a value, or the number of its values if there are many."""
    if isinstance(value, dict):
        return f"{len(value)} keys" if len(value) > 3 else "keys of its own"
    if isinstance(value, list | tuple | set):
        return f"{len(value)} values" if len(value) > 3 else f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of too many digits"
    return repr(value)
