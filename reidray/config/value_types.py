"""Parse the values of configurations, and name their types in messages."""

import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from reidray.config.sections.open_section import is_section, section_settings
from reidray.suggestions import quoted

MAX_DIGITS = 18
"""The most digits of a whole number, so that it fits into 64 bits."""

WHOLE_NUMBER = re.compile(rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

TYPE_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
LIST_EXAMPLES = {int: "1, 2", float: "0.5, 0.8"}


def value_types(
    config_class: type[Any], keys: Iterable[str] = (), prefix: str = ""
) -> dict[str, Any]:
    """Return the type of each value of a configuration by its key.

    The keys of a section contain its name and a dot, as in `network.name`.

    Args:
        config_class: the configuration, or a section of it.
        keys: keys to find. Where an open section lacks one, all its parts are imported first.
        prefix: the key of the section and a dot.
    """
    own = [key.removeprefix(prefix).partition(".")[0] for key in keys if key.startswith(prefix)]
    found: dict[str, Any] = {}
    for name, setting in section_settings(config_class, own).items():
        if is_section(setting.kind):
            found |= value_types(setting.kind, keys, f"{prefix}{name}.")
        else:
            found[prefix + name] = setting.kind
    return found


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself."""
    is_union = get_origin(kind) in (Union, types.UnionType)
    return get_args(kind) if is_union else (kind,)


def describe_type(kind: Any) -> str:
    """Return the name of a type for a message, such as `a whole number`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return describe_type(next(each for each in arguments if each is not types.NoneType))
    if origin is Literal:
        return " or ".join(filter(None, [", ".join(map(str, arguments[:-1])), str(arguments[-1])]))
    if origin is tuple:
        return f"a list such as [{LIST_EXAMPLES.get(arguments[0], 'A, B')}]"
    return TYPE_NAMES.get(kind, "another value")


def parse_value(kind: Any, value: object) -> Any:
    """Return a value of a YAML file or of Python as a value of a type.

    A list becomes a tuple and a whole number a float where the type is one. YAML reads 1e-3,
    without a point, as text; this is a number too. It reads yes and no as true and false, which
    stand for the words where the type has them.

    Raises:
        ValueError: the value is not of the type; the message names the type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for each in arguments:
            try:
                return parse_value(each, value)
            except ValueError:
                continue
    elif origin is Literal:
        if isinstance(value, bool) and "yes" in arguments:  # as YAML reads a plain yes or no
            return "yes" if value else "no"
        if isinstance(value, str) and value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(parse_value(arguments[0], each) for each in value)
    elif kind is float:
        if type(value) in (int, float) or (isinstance(value, str) and NUMBER.fullmatch(value)):
            return float(value)  # type: ignore[arg-type]
    elif kind is int:
        if type(value) is int and abs(value) < 10**MAX_DIGITS:
            return value
    elif type(value) is kind:
        return value
    raise ValueError(f"expected {_describe_expected(kind, value)}")


def parse_text(kind: Any, text: str) -> Any:
    """Return the value of a type that a text on the command line stands for.

    `null` stands for None, `[0.5, 0.8]` for a tuple.

    Raises:
        ValueError: the text stands for no value of the type; the message names the type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if "\0" in text:
        pass
    elif origin in (Union, types.UnionType):
        if text == "null" and types.NoneType in arguments:
            return None
        for each in arguments:
            try:
                return parse_text(each, text)
            except ValueError:
                continue
    elif origin is tuple:
        listed = text.strip()
        if listed.startswith("[") and listed.endswith("]"):
            return tuple(parse_text(arguments[0], each.strip()) for each in listed[1:-1].split(","))
    elif kind is int:
        if WHOLE_NUMBER.fullmatch(text):
            return int(text)
    elif kind is bool:
        if text in ("true", "false"):
            return text == "true"
    elif kind is not types.NoneType:
        return parse_value(kind, text)
    raise ValueError(f"expected {_describe_expected(kind, text)}")


def parse_override(kind: Any, value: object) -> Any:
    """Return a value of a type from a typed value, a text, or several of either.

    Raises:
        ValueError: the value is not of the type; the message names the type.
    """
    if isinstance(value, str):
        return parse_text(kind, value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(parse_override(get_args(kind)[0], each) for each in value)
    return parse_value(kind, value)


def describe_value(value: object) -> str:
    """Return a value for a message: shortened, and `empty` for None."""
    return "empty" if value is None else quoted(value)


def _describe_expected(kind: Any, value: object) -> str:
    """Return the name of the type that a value is not of, with the bound that it exceeds."""
    name = describe_type(kind)
    if name == TYPE_NAMES[int] and re.fullmatch("[+-]?[0-9]+", str(value)[: MAX_DIGITS + 2]):
        return f"{name} of at most {MAX_DIGITS} digits"
    return name
