"""Describe the architecture of a network, from which the network can be built again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic

from reidray.config.sections.network_options import NETWORK_OPTIONS, Options
from reidray.data.attribute_schema import AttributeSchema
from reidray.errors import UserError
from reidray.suggestions import quoted

MAX_ATTRIBUTE_VALUES = 10_000
MAX_LABELS = {"num_people": 10_000_000, "num_classes": 1_000_000, "num_cameras": 1_000_000}
"""The most labels of a classifier, or cameras; more of them are a mistake, or an attack."""

LABEL_FIELDS = {
    "identity": "num_people",
    "class": "num_classes",
    "attributes": "schema",
}
"""The field of an architecture that a prediction needs; its value comes from the data."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Generic[Options]):
    """Hold the name and the options of a network, and the labels that it predicts or reads.

    Attributes:
        name: name of the network.
        options: the network's own options.
        num_people: number of people of the identity classifier; 0 without such a classifier.
        num_classes: number of classes of the classifier; 0 without such a classifier.
        schema: attributes that the network predicts; empty where it predicts none.
        num_cameras: number of training cameras, of a network that reads them; 0 where none is
            known.
    """

    name: str
    options: Options
    num_people: int = 0
    num_classes: int = 0
    schema: AttributeSchema = AttributeSchema()
    num_cameras: int = 0

    @property
    def height(self) -> int:
        """Rows of an image."""
        return self.options.height

    @property
    def width(self) -> int:
        """Columns of an image."""
        return self.options.width

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return self.height, self.width

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as plain values, the options beside the name."""
        labels = {
            "num_people": self.num_people,
            "num_classes": self.num_classes,
            "schema": self.schema.to_json(),
        }
        if self.options.reads_cameras:
            labels["num_cameras"] = self.num_cameras
        return {"name": self.name, **asdict(self.options), **labels}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Architecture[Any]":
        """Return the architecture that `to_json` returned, or one of an earlier reidray.

        Earlier ones also hold the options that other networks have, as 0 or empty.

        Raises:
            UserError: no such network exists, or it cannot have one of the values.
            KeyError, TypeError, ValueError, AttributeError: the values are of other types.
        """
        given = {**values, "schema": AttributeSchema.from_json(values["schema"])}
        name = given.pop("name")
        known = field_names(name)
        empty = (0, "", AttributeSchema())
        given = {key: value for key, value in given.items() if key in known or value not in empty}
        return cls.from_values(name, given)

    @classmethod
    def from_values(cls, name: str, values: Mapping[str, Any]) -> "Architecture[Any]":
        """Return the architecture of a network, with the network's defaults for other options.

        Args:
            name: name of the network.
            values: options of the network, and each label that it needs of `num_people`,
                `num_classes`, `schema` and `num_cameras`.

        Raises:
            UserError: no such network exists, it has no such option, it needs a label, or a value
                is not possible.
        """
        options_class = NETWORK_OPTIONS.get(name)
        known = field_names(name)
        for key in values:
            if key not in known:
                raise UserError(f"network {name!r} has no {key}: it has {', '.join(known)}")
        own = {each.name for each in fields(options_class)}
        labels = {key: values.get(key) for key in known if key not in own}
        _check_labels(name, labels)
        try:
            options = options_class(**{key: values[key] for key in values if key in own})
        except ValueError as error:
            raise UserError(str(error)) from error
        return cls(name=name, options=options, **labels)  # type: ignore[arg-type]


def field_names(name: str) -> list[str]:
    """Return the names of a network's options and of the labels that it needs.

    Raises:
        UserError: no such network exists.
    """
    options = NETWORK_OPTIONS.get(name)
    labels = [field for key, field in LABEL_FIELDS.items() if key in options.predicts]
    if options.reads_cameras:
        labels.append("num_cameras")
    return [each.name for each in fields(options)] + labels


def choose_architecture(
    task: str, name: str, options: Mapping[str, Any], labels: Mapping[str, Any]
) -> Architecture[Any]:
    """Return the architecture of a network for a task.

    Args:
        task: reid, pets or attributes.
        name: name of the network.
        options: options of the network.
        labels: `num_people`, `num_classes`, `schema` and `num_cameras` of the data; the network
            takes those that it predicts or reads.

    Raises:
        UserError: the network is for another task, or `Architecture.from_values` refuses a value.
    """
    if NETWORK_OPTIONS.get(name).task != task:
        others = [each for each, own in NETWORK_OPTIONS.registered.items() if own.task == task]
        raise UserError(
            f"network {name!r} is not for {task}: choose one of {', '.join(sorted(others))}"
        )
    known = field_names(name)
    predicted = {key: value for key, value in labels.items() if key in known}
    return Architecture.from_values(name, {**options, **predicted})


def _check_labels(name: str, labels: Mapping[str, Any]) -> None:
    """Check that labels are present and possible.

    Raises:
        UserError: a label is missing or not possible; the message names the first one.
    """
    for key, value in labels.items():
        if value is None:
            raise UserError(f"network {name!r} needs {key}")
        if key == "schema":
            possible = isinstance(value, AttributeSchema)
            possible = possible and sum(value.sizes) <= MAX_ATTRIBUTE_VALUES
            expected = f"attributes of at most {MAX_ATTRIBUTE_VALUES} values in all"
        else:
            least = 0 if key == "num_cameras" else 1
            possible = type(value) is int and least <= value <= MAX_LABELS[key]
            expected = f"a whole number from {least} to {MAX_LABELS[key]}"
        if not possible:
            raise UserError(f"{key} {quoted(value)}: expected {expected}")
