"""Declare the limits of options, and refuse values beyond them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from math import inf
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reidray.suggestions import quoted

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy, PyTorch and scikit-learn all accept."""

MAX_PIXELS_A_SIDE = 4096
MAX_PIXELS = 1024 * 1024
"""The most pixels of an image that a network takes; a batch of them is 800 MB."""

MAX_BASELINE_PIXELS = 8192
"""The most pixels P of a baseline: its products are P x P float64, 537 MB."""

MAX_FEATURES = 65_536
MAX_IMAGES_A_BATCH = 65_536
MAX_WEIGHT = 1_000_000
"""The largest weight of a loss: float32 still holds the sum."""

MAX_RATE = 100
"""The largest learning rate and weight decay: with more, the weights overflow in a few steps."""

type_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)
"""Return the type of each attribute of a class; a configuration asks many times."""

TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Limits:
    """Hold the limits of an option's values.

    Attributes:
        minimum: the least value.
        maximum: the largest value.
        under: the bound that every value lies below.
    """

    minimum: float
    maximum: float = inf
    under: float = inf

    def allow(self, value: float) -> bool:
        """Return whether a value lies within the limits; NaN does not."""
        return self.minimum <= value <= self.maximum and value < self.under

    def __str__(self) -> str:
        """Return the rest of a sentence about an option, such as `must lie in 0..1`."""
        if self.maximum < inf:
            return f"must lie in {self.minimum}..{self.maximum}"
        if self.under < inf:
            return f"must be {self.minimum} or more and under {self.under}"
        return f"must be finite, {self.minimum} or more"


def limited(default: Any, minimum: float, maximum: float = inf, *, under: float = inf) -> Any:
    """Return a dataclass field with limits, which `check_options` enforces.

    Args:
        default: the default of the field.
        minimum: the least value.
        maximum: the largest value.
        under: the bound that every value lies below.
    """
    return field(default=default, metadata={"limits": Limits(minimum, maximum, under)})


def check_options_class(options_class: type[Any]) -> None:
    """Check that a class can hold the options of a part, when it is registered.

    Raises:
        TypeError: the class is not a dataclass of its own, or a field has no default, a default
            that is not possible, or a type that flags and files cannot give.
    """
    name = f"{options_class.__module__}.{options_class.__qualname__}"
    if "__dataclass_fields__" not in vars(options_class):
        raise TypeError(f"{name} is not a dataclass: add @dataclass(frozen=True, kw_only=True)")
    kinds = type_hints(options_class)
    own = {each.name: each.default for each in fields(options_class)}
    if not own:
        raise TypeError(f"{name} has no field: add one for the strength, which 0 turns off")
    for key, default in own.items():
        if default is MISSING:
            raise TypeError(f"{name}.{key} has no default: add one")
        if not _is_supported(kinds[key]):
            raise TypeError(
                f"{name}.{key} has the type {kinds[key]}: expected int, float, bool, str, Literal, "
                "tuple[..., ...] of one of them, or one of them or None"
            )
    for mistake in find_mistakes(options_class, own, {key: f"{name}.{key}" for key in own}):
        raise TypeError(f"the default of {mistake}")


def check_options(options: Any, section: str) -> None:
    """Check that the fields of a dataclass have values of their types, within their limits.

    Args:
        options: the dataclass.
        section: the section of a configuration that it belongs to, for messages.

    Raises:
        ValueError: a value is not valid; the message names the first such field.
    """
    names = {each.name: f"`{section}.{each.name}`" for each in fields(options)}
    for mistake in find_mistakes(type(options), vars(options), names):
        raise ValueError(mistake)


def find_mistakes(
    options_class: type[Any], values: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[str]:
    """Yield a message about each value that a field of a dataclass cannot have.

    Args:
        options_class: the dataclass.
        values: values of some of its fields by name.
        names: name of each field in messages.
    """
    kinds = type_hints(options_class)
    for each in fields(options_class):
        if each.name not in values:
            continue
        value, limits = values[each.name], each.metadata.get("limits")
        if not _is_of_type(kinds[each.name], value):
            expected = _describe_type(kinds[each.name])
            yield f"{names[each.name]} {quoted(value)}: expected {expected}"
        elif limits is not None and not limits.allow(value):
            yield f"{names[each.name]} {limits}"


def require(condition: bool, message: str) -> None:
    """Refuse a configuration.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(message)


def require_seed(value: int, name: str) -> None:
    """Refuse a seed that a random generator refuses.

    Raises:
        ValueError: the seed is negative or too large.
    """
    require(0 <= value <= MAX_SEED, f"{name} must lie in 0..{MAX_SEED}")


def check_split(order: str, seed: int) -> None:
    """Refuse a seed of the validation split that is no seed, or that the split does not use.

    Raises:
        ValueError: the message names the seed.
    """
    require_seed(seed, "`split_seed`")
    require(
        order == "random" or seed == 0,
        f"`split_seed={seed}` draws a random order and `split_order={order}` draws none: leave one "
        "of them out",
    )


def _is_supported(kind: Any) -> bool:
    """Return whether the command line and YAML files can give values of a type."""
    if get_origin(kind) in (Union, UnionType):
        return all(each is NoneType or _is_supported(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return get_args(kind)[1:] == (...,) and _is_supported(get_args(kind)[0])
    return get_origin(kind) is Literal or kind in TYPE_NAMES


def _is_of_type(kind: Any, value: object) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of_type(each, value) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of_type(get_args(kind)[0], v) for v in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in TYPE_NAMES else isinstance(value, kind)


def _describe_type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        *names, last = get_args(kind)
        return f"{', '.join(names)} or {last}" if names else str(last)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe_type(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a tuple, each value of which is {_describe_type(get_args(kind)[0])}"
    return "None" if kind is NoneType else TYPE_NAMES.get(kind, f"a {kind.__name__}")
