"""Record the source of each value of a configuration, so that only defaults are adapted."""

from dataclasses import dataclass
from enum import IntEnum

from reidray.config.sections.section import ConfigSection


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


def sources_of(config: ConfigSection) -> Sources:
    """Return the sources of a configuration that was made in Python: its arguments are overrides.

    >>> from reidray.config import NetworkConfig, TrainReidConfig
    >>> config = TrainReidConfig(data="crops", recipe="demo", network=NetworkConfig(height=64))
    >>> sources = sources_of(config)
    >>> sources.of("network.height").name, sources.of("network.name").name
    ('OVERRIDE', 'RECIPE')
    """
    return Sources(overrides=config.given_keys())
