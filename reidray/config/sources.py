"""Record the source of each value of a configuration, so that only defaults are adapted."""

from dataclasses import dataclass
from enum import IntEnum


class Source(IntEnum):
    """Name the source of a value; a later one replaces an earlier one."""

    RECIPE = 0
    """The recipe, or the default of the configuration."""
    FILE = 1
    """A configuration file of the user's, or that of a run that is resumed."""
    OVERRIDE = 2
    """The command line, or an argument in Python."""


@dataclass(frozen=True)
class Sources:
    """Hold the keys, with dots, whose values a user gave.

    Attributes:
        files: keys of the user's configuration files.
        overrides: keys given on the command line or in Python.
    """

    files: frozenset[str] = frozenset()
    overrides: frozenset[str] = frozenset()

    def of(self, key: str) -> Source:
        """Return the source of the value of a key."""
        if key in self.overrides:
            return Source.OVERRIDE
        return Source.FILE if key in self.files else Source.RECIPE
