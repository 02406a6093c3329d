"""What varies in a sweep: keys of a training's configuration, and how each is drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from reidray.config import TrainingConfig
from reidray.config.loading import space_files
from reidray.config.settings_files import read_settings
from reidray.config.value_types import describe_type
from reidray.errors import UserError
from reidray.suggestions import quoted, suggest_name

Way = Literal["choice", "uniform", "loguniform", "randint"]
Config = TypeVar("Config", bound=TrainingConfig)

FIXED = {
    **dict.fromkeys(
        ("data", "layout", "strict", "max_bad", "val_fraction", "split_seed", "task"),
        "trials are compared on the same images",
    ),
    **dict.fromkeys(
        ("network.name", "network.height", "network.width"),
        "images are decoded once for the whole sweep, as the recipe's network takes them",
    ),
    **dict.fromkeys(
        ("validation.select_by", "validation.metric", "validation.every"),
        "trials are compared by the same figure",
    ),
    **dict.fromkeys(
        ("output", "num_workers", "use_gpu", "max_failures", "max_minutes", "ingest", "precision"),
        "it says where training runs, not what it learns",
    ),
}
"""Keys that cannot vary, and why."""


@dataclass(frozen=True)
class Variation:
    """How one key varies.

    Attributes:
        key: of the configuration, with dots.
        way: choice of values; uniform and loguniform between two numbers; randint from one whole
            number to another, both included.
        values: the choices, or the two numbers.
    """

    key: str
    way: Way
    values: tuple[Any, ...]


def read_space(names: tuple[str, ...], task: str, base: TrainingConfig) -> tuple[Variation, ...]:
    """What varies, from spaces by their names and from YAML files.

    Args:
        names: of spaces that come with reidray, or files.
        task: reid or multitask.
        base: the configuration that is varied.

    Raises:
        UserError: a file is no space, a key is not the configuration's or cannot vary, or a value
            is one that the configuration refuses.
    """
    known = space_files(task)
    found: dict[str, Variation] = {}
    for name in names:
        file = known.get(name, Path(name))
        if name not in known and not file.exists():
            raise UserError(
                f"space {quoted(name)} is no file and does not come with reidray: "
                f"{suggest_name(name, known)}"
            )
        for variation in _read(file):
            if variation.key in found:
                raise UserError(f"{file}: key {variation.key!r} varies in another space too")
            found[variation.key] = variation
            _check(variation, base, file)
    if not found:
        raise UserError(f"space {', '.join(names)} is empty: name a key that varies")
    return tuple(found.values())


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with other values of some keys, which may have dots.

    Raises:
        ValueError: the configuration refuses a value.
    """
    changes: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            changes[first] = value
    for first, inner in below.items():
        changes[first] = with_values(getattr(config, first), inner)
    known = {field.name: getattr(config, field.name) for field in fields(config)}
    return type(config)(**known | changes)


def _read(file: Path) -> Iterator[Variation]:
    """The variations of a file."""
    content = read_settings(file, "space", "batch.people: {choice: [8, 16]}")
    for key, drawn in content.items():
        if not (isinstance(drawn, dict) and len(drawn) == 1):
            raise UserError(
                f"{file}: {key}: expected one of choice, uniform, loguniform and randint with its "
                f"values, as in `{key}: {{choice: [1, 2]}}`"
            )
        ((way, values),) = drawn.items()
        yield _variation(str(key), way, values, file)


def _variation(key: str, way: Any, values: Any, file: Path) -> Variation:
    """A line of a file, checked for itself."""
    if way not in get_args(Way):
        advice = suggest_name(str(way), get_args(Way))
        raise UserError(f"{file}: {key}: {quoted(way)} is no way to draw: {advice}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{file}: {key}: {way} needs a list of values, as in [1, 2]")
    if way == "choice":
        return Variation(key, way, tuple(tuple(v) if isinstance(v, list) else v for v in values))
    numbers = [value for value in values if isinstance(value, int | float) and value is not True]
    if len(values) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise UserError(
            f"{file}: {key}: {way} needs two numbers, the lower one first: {quoted(values)}"
        )
    if way == "loguniform" and numbers[0] <= 0:
        raise UserError(f"{file}: {key}: loguniform needs numbers above 0: {quoted(values)}")
    if way == "randint" and not all(isinstance(number, int) for number in numbers):
        raise UserError(f"{file}: {key}: randint needs whole numbers: {quoted(values)}")
    return Variation(key, way, tuple(numbers))


def _check(variation: Variation, base: TrainingConfig, file: Path) -> None:
    """Refuse a key that cannot vary, and values that the configuration would refuse."""
    known = dict(_keys(type(base)))
    key = variation.key
    if key not in known:
        raise UserError(f"{file}: key {quoted(key)} does not exist: {suggest_name(key, known)}")
    if key in FIXED:
        raise UserError(f"{file}: key {key!r} cannot vary: {FIXED[key]}")
    for value in variation.values:
        drawn = float(value) if variation.way in ("uniform", "loguniform") else value
        if not _fits(drawn, known[key]):
            expected = describe_type(known[key])
            raise UserError(
                f"{file}: {key}: {quoted(drawn)} is not a value it can have: expected {expected}"
            )
        try:
            with_values(base, {key: drawn})
        except ValueError as error:
            raise UserError(f"{file}: {key}: {error}") from error


def _keys(config: type[Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a configuration, with dots, and their types."""
    types = get_type_hints(config)
    for field in fields(config):
        kind = types[field.name]
        if is_dataclass(kind):
            yield from _keys(kind, f"{above}{field.name}.")  # type: ignore[arg-type]
        else:
            yield f"{above}{field.name}", kind


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a type, as the configuration's keys have them."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(kind)[0]) for v in value)
    if get_args(kind):
        return any(_fits(value, choice) for choice in get_args(kind))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)
