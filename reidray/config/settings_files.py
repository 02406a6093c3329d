"""Read YAML files of settings within bounds on their size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from reidray.errors import UserError

MAX_BYTES = 50_000
MAX_VALUES = 10_000
"""The most values of a file, with each alias counted as the values that it stands for."""

MAX_DEPTH = 20


class _BoundedLoader(yaml.SafeLoader):
    """Load YAML, and refuse a mapping that grows beyond bounds by merging others."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings that `<<` names into a mapping."""
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "too many keys", node.start_mark)


def read_settings(
    file: Path, kind: str = "configuration", example: str = "epochs: 60"
) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Args:
        file: path on this machine's disk.
        kind: name of this kind of file in messages.
        example: line that such a file may hold.

    Raises:
        UserError: the file cannot be read, is not YAML, holds no keys, or exceeds `MAX_BYTES`,
            `MAX_VALUES` or `MAX_DEPTH`.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{kind} {file} cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{kind} {file} has more than {MAX_BYTES:,} bytes: expected settings")
    try:
        values = _BoundedLoader(data.decode()).get_single_data()
        count = sum(1 for _ in zip(_values(values), range(MAX_VALUES + 1), strict=False))
    except RecursionError:
        raise UserError(f"{kind} {file} is not YAML: its values lie too deep") from None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{kind} {file} is not YAML: {reason}") from None
    if count > MAX_VALUES:
        raise UserError(f"{kind} {file} holds more than {MAX_VALUES:,} values: expected settings")
    if not isinstance(values, dict) or not values:
        raise UserError(f"{kind} {file} holds no keys: expected lines such as `{example}`")
    return values


def _values(value: object, depth: int = 0) -> Iterator[object]:
    """Yield a value and all values within it.

    Raises:
        ValueError: the values are nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"values lie within each other {MAX_DEPTH} deep")
    yield value
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    for each in inner:
        yield from _values(each, depth + 1)
