"""Record the source of each value of a configuration, so that only defaults are adapted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Source(IntEnum):
    """Name the source of a value; a later one overrides an earlier one."""

    RECIPE = 0
    """The recipe, or the default of the configuration."""
    FILE = 1
    """A configuration file of the user's, or that of a run that is resumed."""
    FLAG = 2
    """The command line."""


@dataclass(frozen=True)
class Sources:
    """The keys, with dots, that a user gave.

    A key that stands for others, such as `batch`, stands for all below it.

    Attributes:
        files: keys of the user's configuration files.
        flags: keys of the command line.
    """

    files: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()

    def of(self, key: str) -> Source:
        """Return where the value of a key comes from."""
        parts = key.split(".")
        names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if names & self.flags:
            return Source.FLAG
        return Source.FILE if names & self.files else Source.RECIPE


def read_sources(arguments: Iterable[str], files: Iterable[Mapping[str, Any]]) -> Sources:
    """Return the sources of the values of a command line.

    Args:
        arguments: the command line.
        files: the contents of the user's configuration files.
    """
    flags = {
        argument.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        for argument in arguments
        if argument.startswith("--")
    }
    return Sources(
        files=frozenset(key for content in files for key in _keys(content)),
        flags=frozenset(flags),
    )


def _keys(content: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"
