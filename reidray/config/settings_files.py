"""YAML files of settings, read within bounds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from reidray.errors import UserError

MOST_BYTES = 50_000
MOST_VALUES = 10_000
"""Values of a file with aliases written out, each time that they occur."""

DEEPEST = 20


class _BoundedLoader(yaml.SafeLoader):
    """Reads no mapping that grows beyond bounds as others are merged into it."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what `<<` names into a mapping."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "too many keys", node.start_mark)


def read_settings(
    file: Path, kind: str = "configuration", example: str = "epochs: 60"
) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Args:
        file: on this machine's disk.
        kind: what messages call it.
        example: a line that such a file may hold.

    Raises:
        UserError: it cannot be read, is no YAML, holds no keys, or is larger than a file of
            settings can be: `MOST_BYTES`, `MOST_VALUES`, `DEEPEST`.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{kind} {file} cannot be read: {reason}") from None
    if len(data) > MOST_BYTES:
        raise UserError(f"{kind} {file} has more than {MOST_BYTES:,} bytes: expected settings")
    try:
        values = _BoundedLoader(data.decode()).get_single_data()
        count = sum(1 for _ in zip(_values(values), range(MOST_VALUES + 1), strict=False))
    except RecursionError:
        raise UserError(f"{kind} {file} is not YAML: its values lie too deep") from None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{kind} {file} is not YAML: {reason}") from None
    if count > MOST_VALUES:
        raise UserError(f"{kind} {file} holds more than {MOST_VALUES:,} values: expected settings")
    if not isinstance(values, dict) or not values:
        raise UserError(f"{kind} {file} holds no keys: expected lines such as `{example}`")
    return values


def _values(value: object, depth: int = 0) -> Iterator[object]:
    """Yield a value and all within it.

    Raises:
        ValueError: they lie too deep within each other.
    """
    if depth > DEEPEST:
        raise ValueError(f"values lie within each other {DEEPEST} deep")
    yield value
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    for each in inner:
        yield from _values(each, depth + 1)
