"""What can be said of a person in a picture: attributes, their values and their codes."""

from dataclasses import dataclass

UNKNOWN = -1


@dataclass(frozen=True)
class Attribute:
    """One question about a person and its possible answers.

    Attributes:
        name: the manifest's column is `attr_<name>`.
        values: the answers in the order of their codes, which are 0 .. len(values) - 1.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class AttributeSchema:
    """The attributes a set of images is annotated with, in a fixed order."""

    attributes: tuple[Attribute, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes' names in order."""
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The manifest's columns in order."""
        return tuple(f"attr_{name}" for name in self.names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each attribute has."""
        return tuple(len(attribute.values) for attribute in self.attributes)

    def to_json(self) -> list[dict[str, object]]:
        """The schema as plain lists and strings, for a model directory."""
        return [{"name": a.name, "values": list(a.values)} for a in self.attributes]

    @classmethod
    def from_json(cls, entries: list[dict[str, object]]) -> "AttributeSchema":
        """The schema that `to_json` wrote.

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
"""The twelve attributes of the Market-1501 annotations (Lin et al. 2017) as one class each."""
