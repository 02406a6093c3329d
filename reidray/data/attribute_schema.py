"""Define the attributes of a person in an image, and their values."""

from dataclasses import dataclass

UNKNOWN = -1
"""Label of an attribute whose value is unknown."""


@dataclass(frozen=True)
class Attribute:
    """Hold an attribute and its values.

    Attributes:
        name: the name of the attribute; its column in a manifest is `attr_<name>`.
        values: the values; the label of a value is its index.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class AttributeSchema:
    """Hold the attributes of a data set, in a fixed order."""

    attributes: tuple[Attribute, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the attributes."""
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the attributes in a manifest."""
        return tuple(f"attr_{name}" for name in self.names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of values of each attribute."""
        return tuple(len(attribute.values) for attribute in self.attributes)

    def to_json(self) -> list[dict[str, object]]:
        """Return the schema as lists and strings, for the JSON file of a model directory."""
        return [{"name": a.name, "values": list(a.values)} for a in self.attributes]

    @classmethod
    def from_json(cls, entries: list[dict[str, object]]) -> "AttributeSchema":
        """Return the schema from the result of `to_json`.

        Raises:
            ValueError: an entry is not a name with a list of values.
        """
        attributes = []
        for entry in entries:
            name, values = entry.get("name"), entry.get("values")
            if not isinstance(name, str) or not isinstance(values, list) or len(values) < 2:
                raise ValueError(f"attribute {entry!r} is not a name with at least two values")
            attributes.append(Attribute(name, tuple(str(value) for value in values)))
        return cls(tuple(attributes))


NO_YES = ("no", "yes")

UPPER_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
LOWER_COLOURS = ("black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown")
MULTICOLOUR = "multicolour"

PEDESTRIAN_SCHEMA = AttributeSchema(
    (
        Attribute("gender", ("male", "female")),
        Attribute("hair", ("short", "long")),
        Attribute("sleeve", ("long", "short")),
        Attribute("lower_length", ("long", "short")),
        Attribute("lower_type", ("dress", "trousers")),
        Attribute("hat", NO_YES),
        Attribute("backpack", NO_YES),
        Attribute("bag", NO_YES),
        Attribute("handbag", NO_YES),
        Attribute("upper_colour", (*UPPER_COLOURS, MULTICOLOUR)),
        Attribute("lower_colour", (*LOWER_COLOURS, MULTICOLOUR)),
        Attribute("age", ("young", "teenager", "adult", "old")),
    )
)
"""The twelve attributes of the Market-1501 annotations (Lin et al. 2019).

Each colour attribute takes the place of one binary attribute per colour.
"""
