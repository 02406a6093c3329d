"""Read the search space of a sweep: the keys of a configuration that vary, and their values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from reidray.config import TrainingConfig
from reidray.config.loading import space_files
from reidray.config.sections.open_section import OpenSection
from reidray.config.settings_files import read_settings
from reidray.config.value_types import describe_type, parse_value, value_types
from reidray.errors import UserError
from reidray.suggestions import quoted, suggest_name

Distribution = Literal["choice", "uniform", "loguniform", "randint"]
Config = TypeVar("Config", bound=TrainingConfig)

INPUT_SIZE = "input_size"
"""Key of a space for the height and the width of the crops together, such as `128x64`."""

FIXED_KEYS = {
    **dict.fromkeys(
        (
            "data",
            "layout",
            "strict",
            "max_bad",
            "val_fraction",
            "split_order",
            "split_seed",
            "task",
        ),
        "the sweep compares all trials on the same images",
    ),
    "network.name": "a sweep compares trials of one network",
    **dict.fromkeys(
        ("network.height", "network.width"),
        f"they vary together, as in `{INPUT_SIZE}: {{choice: [64x32, 128x64]}}`",
    ),
    **dict.fromkeys(
        (
            "validation.select_by",
            "validation.metric",
            "validation.protocol",
            "validation.num_queries",
            "validation.top_k",
            "validation.every",
        ),
        "the sweep compares all trials by the same metric",
    ),
    **dict.fromkeys(
        (
            "output",
            "num_workers",
            "use_gpu",
            "sync_batchnorm",
            "max_failures",
            "max_minutes",
            "ingest",
            "precision",
            "compile",
        ),
        "it selects where training runs, not what it learns",
    ),
    "no_images": "it selects what the report shows, not what the training learns",
    "auto_batch": "the largest batch is found for one training",
    "optimizer.scale_learning_rate": "it belongs to auto_batch",
    "plugins": "every process imports its modules once, before the trials",
}
"""The keys that cannot vary, with the reason."""


@dataclass(frozen=True)
class SearchParameter:
    """Define the distribution of the values of one key.

    Attributes:
        key: a key of the training configuration, with dots, or `input_size`.
        distribution: `choice` draws one of the values; `uniform` and `loguniform` draw a number
            between two numbers; `randint` draws an integer from the first to the second number,
            both included.
        values: the choices, or the two numbers.
    """

    key: str
    distribution: Distribution
    values: tuple[Any, ...]

    @property
    def is_numeric(self) -> bool:
        """Return whether the values are the ends of a range of numbers."""
        return self.distribution != "choice"


def load_space(
    names: tuple[str, ...], task: str, base: TrainingConfig
) -> tuple[SearchParameter, ...]:
    """Load a search space from one or more YAML files.

    Args:
        names: names of spaces that come with reidray, or paths of YAML files.
        task: reid or multitask.
        base: the configuration that the sweep varies.

    Raises:
        UserError: a file holds no search space, a key does not exist or cannot vary, or the
            configuration does not allow a value.
    """
    known = space_files(task)
    found: dict[str, SearchParameter] = {}
    for name in names:
        file = known.get(name, Path(name))
        if name not in known and not file.exists():
            raise UserError(
                f"space {quoted(name)} is no file and does not come with reidray: "
                f"{suggest_name(name, known)}"
            )
        for parameter in _read_space(file):
            if parameter.key in found:
                raise UserError(f"{file}: key {parameter.key!r} varies in another space too")
            found[parameter.key] = parameter
            _check_parameter(parameter, base, file)
    if not found:
        raise UserError(f"space {', '.join(names)} is empty: name a key that varies")
    return tuple(found.values())


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a configuration with other values.

    Args:
        config: the configuration.
        values: the new values by key; the keys of sections contain dots. `input_size` stands for
            `network.height` and `network.width`.

    Raises:
        ValueError: the configuration does not allow a value.
    """
    changes: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key, value in _with_sides(values).items():
        first, _, rest = key.partition(".")
        if rest:
            sections.setdefault(first, {})[rest] = value
        else:
            changes[first] = value
    for name, section in sections.items():
        changes[name] = with_values(getattr(config, name), section)
    if isinstance(config, OpenSection):
        return config.replace(**changes)
    unchanged = {field.name: getattr(config, field.name) for field in fields(config)}
    return type(config)(**unchanged | changes)


def _with_sides(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the height and the width of the input size as values of their own."""
    sides: dict[str, Any] = {}
    if INPUT_SIZE in values:
        size = str(values[INPUT_SIZE])
        if not re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", size):
            raise ValueError(f"{quoted(size)} is no height and width in pixels, such as 128x64")
        height, width = map(int, size.split("x"))
        sides = {"network.height": height, "network.width": width}
    return {key: value for key, value in values.items() if key != INPUT_SIZE} | sides


def _read_space(file: Path) -> Iterator[SearchParameter]:
    """Yield the parameters of a file."""
    content = read_settings(file, "space", "batch.people: {choice: [8, 16]}")
    for key, drawn in content.items():
        if not (isinstance(drawn, dict) and len(drawn) == 1):
            raise UserError(
                f"{file}: {key}: expected one of choice, uniform, loguniform and randint with its "
                f"values, as in `{key}: {{choice: [1, 2]}}`"
            )
        ((distribution, values),) = drawn.items()
        yield _parse_parameter(str(key), distribution, values, file)


def _parse_parameter(key: str, distribution: Any, values: Any, file: Path) -> SearchParameter:
    """Return the parameter of one line of a file, with its values checked for the distribution."""
    if distribution not in get_args(Distribution):
        advice = suggest_name(str(distribution), get_args(Distribution))
        raise UserError(f"{file}: {key}: {quoted(distribution)} is no distribution: {advice}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{file}: {key}: {distribution} needs a list of values, as in [1, 2]")
    if distribution == "choice":
        choices = tuple(tuple(each) if isinstance(each, list) else each for each in values)
        return SearchParameter(key, distribution, choices)
    numbers = [value for value in values if isinstance(value, int | float) and value is not True]
    if len(values) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise UserError(
            f"{file}: {key}: {distribution} needs two numbers, the lower one first: "
            f"{quoted(values)}"
        )
    if distribution == "loguniform" and numbers[0] <= 0:
        raise UserError(f"{file}: {key}: loguniform needs numbers above 0: {quoted(values)}")
    if distribution == "randint" and not all(isinstance(number, int) for number in numbers):
        raise UserError(f"{file}: {key}: randint needs whole numbers: {quoted(values)}")
    return SearchParameter(key, distribution, tuple(numbers))


def _check_parameter(parameter: SearchParameter, base: TrainingConfig, file: Path) -> None:
    """Check that the key exists and can vary, and that the configuration allows the values.

    Raises:
        UserError: the key or a value is not valid; the message names the key.
    """
    kinds = value_types(type(base), [parameter.key]) | {INPUT_SIZE: str}
    key = parameter.key
    if key not in kinds:
        raise UserError(f"{file}: key {quoted(key)} does not exist: {suggest_name(key, kinds)}")
    if key in FIXED_KEYS:
        raise UserError(f"{file}: key {key!r} cannot vary: {FIXED_KEYS[key]}")
    for value in parameter.values:
        is_float = parameter.distribution in ("uniform", "loguniform")
        drawn = float(value) if is_float else value
        if key != INPUT_SIZE and not _is_of_type(drawn, kinds[key]):
            expected = describe_type(kinds[key])
            raise UserError(
                f"{file}: {key}: {quoted(drawn)} is no valid value: expected {expected}"
            )
        try:
            with_values(base, {key: drawn})
        except ValueError as error:
            raise UserError(f"{file}: {key}: {error}") from error


def _is_of_type(value: Any, kind: Any) -> bool:
    """Return whether a value has a type. The text of a number is no number here."""
    try:
        return bool(parse_value(kind, value) == value)
    except ValueError:
        return False
