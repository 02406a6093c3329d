"""Record the fields that a caller gives a section, so that a recipe fills in the others."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self, cast


class ConfigSection:
    """Base class of the sections of a configuration, which are frozen dataclasses.

    Attributes:
        given_fields: names of the fields that the caller gave; the others have their defaults, or
            come from a recipe.
    """

    given_fields: frozenset[str]

    def __new__(cls, **given: object) -> Self:
        """Return a new section that knows the names of its arguments."""
        section = super().__new__(cls)
        object.__setattr__(section, "given_fields", frozenset(given))
        return section

    def given_keys(self) -> frozenset[str]:
        """Return the keys of the given fields, those of given sections with a dot."""
        keys = set()
        for name in self.given_fields:
            value = getattr(self, name)
            if isinstance(value, ConfigSection):
                keys |= {f"{name}.{key}" for key in value.given_keys()}
            else:
                keys.add(name)
        return frozenset(keys)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values of some fields.

        Unlike with `dataclasses.replace`, fields that the caller never gave count as not given,
        so that a training still adapts them to the data.
        """
        unchanged = {each.name: getattr(self, each.name) for each in fields(cast("Any", self))}
        return self._keep_given(type(self)(**unchanged | changes), changes)

    def _keep_given(self, copy: Self, changes: Mapping[str, Any]) -> Self:
        object.__setattr__(copy, "given_fields", self.given_fields | changes.keys())
        return copy

    def fill_in(self, settings: Mapping[str, Any]) -> None:
        """Set the fields that the caller did not give.

        Args:
            settings: values by field, those of sections as mappings.

        Raises:
            ValueError: a section refuses a value.
        """
        for name, value in settings.items():
            current = getattr(self, name)
            if isinstance(current, ConfigSection):
                given = current.given_fields if name in self.given_fields else frozenset()
                own = {each: getattr(current, each) for each in given}
                filled = type(current)(**{**value, **own})
                object.__setattr__(filled, "given_fields", given)
                object.__setattr__(self, name, filled)
            elif name not in self.given_fields:
                object.__setattr__(self, name, value)
