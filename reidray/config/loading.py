"""Load a configuration from a recipe, files and overrides."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files as package_files
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

from reidray.config.sections.open_section import is_section, section_settings
from reidray.config.settings_files import read_settings
from reidray.config.sources import Sources
from reidray.config.value_types import describe_value, parse_override, parse_value, value_types
from reidray.errors import UserError
from reidray.registry import import_plugins
from reidray.suggestions import closest_name, quoted, suggest_name

Config = TypeVar("Config")
Settings = Mapping[str, Any]

FIELD = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)`")


@dataclass(frozen=True)
class LoadedConfig(Generic[Config]):
    """Hold a configuration and the sources of its values.

    Attributes:
        config: the configuration.
        sources: the keys that files and overrides gave. The others come from the recipe or are
            defaults, and may be adapted to the data.
    """

    config: Config
    sources: Sources


class MissingValueError(UserError):
    """A configuration lacks values that have no default."""


def recipe_files(kind: str) -> dict[str, Path]:
    """Return the recipes that come with reidray by name.

    Args:
        kind: reid or multitask.
    """
    return _yaml_files(f"recipes/{kind}")


def space_files(kind: str) -> dict[str, Path]:
    """Return the search spaces that come with reidray by name.

    Args:
        kind: reid or multitask.
    """
    of_both = _yaml_files("recipes/spaces")
    return dict(sorted({**of_both, **_yaml_files(f"recipes/spaces/{kind}")}.items()))


def describe_files(found: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return what the comment at the top of each recipe or search space says, a text a line.

    The first line describes the file. A recipe says in lines that begin with `Needs` and `Reaches`
    on which machines it runs, and what comes out of it.
    """
    return {name: list(_iter_comment(path.read_text())) for name, path in found.items()}


def _iter_comment(text: str) -> Iterator[str]:
    """Yield the first line of the comment at the top of a file, and what it needs and reaches."""
    for number, line in enumerate(takewhile(lambda each: each.startswith("#"), text.splitlines())):
        content = line.lstrip("# ")
        if number == 0 or content.startswith(("Needs ", "Reaches ")):
            yield content


def load_config(
    config_class: type[Config],
    recipe: str | None = None,
    overrides: Settings | None = None,
    files: Sequence[Path] = (),
) -> LoadedConfig[Config]:
    """Return a configuration: overrides, over files, over a recipe, over the defaults.

    Args:
        config_class: a dataclass, whose sections are dataclasses.
        recipe: name of a recipe of the class's kind of training, such as `market_small`.
        overrides: values by key, as `{"epochs": 9, "batch.people": "8"}` or
            `{"batch": {"people": 8}}`. A text stands for a value as on the command line.
        files: YAML files on this machine's disk; a later one replaces an earlier one's values.

    Raises:
        MissingValueError: a value without a default is given nowhere.
        UserError: the recipe does not exist, a file cannot be read, a key does not exist, or a
            value is not what it can be. The message names a key in backticks, or a file.
    """
    recipes = [] if recipe is None else [_find_recipe(config_class, recipe)]
    contents = {str(file): read_settings(file) for file in (*recipes, *files)}
    import_plugins(find_plugins((*contents.values(), overrides or {})))
    layers = {
        name: parse_settings(config_class, content, name) for name, content in contents.items()
    }
    given = _parse_overrides(config_class, overrides or {})
    merged: dict[str, Any] = {}
    for layer in (*layers.values(), given):
        merged = merge_settings(merged, layer)
    _check_complete(config_class, merged)
    try:
        config = _build(config_class, merged)
    except ValueError as error:
        message = " ".join(str(error).split())
        raise UserError(_name_file(message, given, layers)) from error
    own_layers = list(layers.values())[len(recipes) :]
    sources = Sources(
        files=frozenset(key for layer in own_layers for key in _keys(layer)),
        overrides=frozenset(_keys(given)),
    )
    return LoadedConfig(config, sources)


def load_recipe(config_class: type[Any], name: str) -> dict[str, Any]:
    """Return the values of a recipe, nested, of the types of a configuration.

    Raises:
        UserError: the class's kind of training has no recipe of this name.
    """
    file = _find_recipe(config_class, name)
    return parse_settings(config_class, read_settings(file), str(file))


def parse_settings(
    config_class: type[Any], settings: Settings, file: str, prefix: str = ""
) -> dict[str, Any]:
    """Return the settings of a file as values of a configuration's types.

    Args:
        config_class: the configuration, or a section of it.
        settings: what the file holds.
        file: its name, for messages.
        prefix: the key of the section and a dot.

    Raises:
        UserError: a key does not exist, or a value is not of its type.
    """
    known = section_settings(config_class, map(str, settings))
    parsed: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if key not in known:
            section, _, setting = str(key).partition(".")
            near = closest_name(str(key), known)
            if setting and section in known and is_section(known[section].kind):
                advice = f"write {section}: {{{setting}: ...}}"
            elif near:
                advice = f"did you mean {prefix + near!r}?"
            else:
                advice = f"it has {', '.join(known)}"
            raise UserError(f"{file}: key {quoted(name)} does not exist: {advice}")
        kind = known[key].kind
        if is_section(kind):
            if not isinstance(value, dict):
                raise UserError(
                    f"{file}: key {name!r} is {quoted(value)}: expected keys of its own below it"
                    f"{_auto_batch_advice(value, known)}"
                )
            parsed[key] = parse_settings(kind, value, file, f"{name}.")
            continue
        try:
            parsed[key] = parse_value(kind, value)
        except ValueError as error:
            raise UserError(
                f"{file}: key {name!r} is {describe_value(value)}: {error}"
                f"{_auto_batch_advice(value, known)}"
            ) from None
    return parsed


def _auto_batch_advice(value: object, known: Mapping[str, Any]) -> str:
    """Return the end of a message about a value of `auto`, which `--batch auto` suggests."""
    return ", or the key auto_batch" if value == "auto" and "auto_batch" in known else ""


def merge_settings(lower: Settings, upper: Settings) -> dict[str, Any]:
    """Return nested settings with the values of `upper` over those of `lower`."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_settings(below, value) if both else value  # type: ignore[arg-type]
    return merged


def find_plugins(layers: Iterable[Settings]) -> list[str]:
    """Return the plugins that the last of some layers names, so that their keys are known."""
    named: Any = ()
    for layer in layers:
        named = layer.get("plugins", named)
    return [each for each in named if isinstance(each, str)] if type(named) is not str else [named]


def _yaml_files(folder: str) -> dict[str, Path]:
    found = Path(str(package_files("reidray.config"))) / folder
    return {path.stem: path for path in sorted(found.glob("*.yaml"))}


def _find_recipe(config_class: type[Any], name: str) -> Path:
    """Return the file of a recipe.

    Raises:
        UserError: the class's kind of training has no recipe of this name.
    """
    known = recipe_files(config_class.RECIPES)
    if name not in known:
        raise UserError(f"recipe {quoted(name)} does not exist: {suggest_name(name, known)}")
    return known[name]


def _parse_overrides(config_class: type[Any], overrides: Settings) -> dict[str, Any]:
    """Return overrides as nested settings of a configuration's types.

    Raises:
        UserError: a key does not exist, or a value is not of its type.
    """
    given = dict(_flatten(overrides))
    kinds = value_types(config_class, given)
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        if key not in kinds:
            raise UserError(f"key {quoted(key)} does not exist: {suggest_name(key, kinds)}")
        try:
            nested: Any = parse_override(kinds[key], value)
        except ValueError as error:
            raise UserError(f"`{key}` is {describe_value(value)}: {error}") from None
        for part in reversed(key.split(".")):
            nested = {part: nested}
        parsed = merge_settings(parsed, nested)
    return parsed


def _flatten(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested settings with its key, sections before a dot."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _keys(settings: Settings) -> Iterator[str]:
    return (key for key, _ in _flatten(settings))


def _check_complete(config_class: type[Any], settings: Settings) -> None:
    """Check that every value without a default is given.

    Raises:
        MissingValueError: values are missing; the message names all of them.
    """
    missing = [
        f"`{field.name}`"
        for field in fields(config_class)
        if field.default is MISSING and field.default_factory is MISSING
        if field.name not in settings
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingValueError(f"{' and '.join(missing)} {verb} missing")


def _build(config_class: type[Config], settings: Settings) -> Config:
    """Return a configuration of parsed settings, its sections first."""
    known = section_settings(config_class)
    values = {
        key: _build(known[key].kind, value) if is_section(known[key].kind) else value
        for key, value in settings.items()
    }
    return config_class(**values)


def _name_file(message: str, given: Settings, layers: Mapping[str, Settings]) -> str:
    """Return a message about a value with the file that gives the value, if one does."""
    found = FIELD.match(message)
    if found is not None and found[1] not in set(_keys(given)):
        for file, settings in reversed(list(layers.items())):
            if found[1] in set(_keys(settings)):
                return f"{file}: {FIELD.sub(lambda each: each[1], message)}"
    return message
