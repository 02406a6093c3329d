"""The flags of a job: each a field of its configuration, checked before anything is parsed."""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reidray.errors import UserError
from reidray.suggestions import closest_name, quoted

SYNONYMS: dict[str, tuple[str, ...]] = {
    "address": ("ray-address",),
    "arch": ("network.backbone",),
    "architecture": ("network.name",),
    "amp": ("precision",),
    "batch-size": ("batch-size", "batch.people", "batch.crops"),
    "batch": ("batch-size",),
    "bs": ("batch-size", "batch.people", "batch.crops"),
    "cfg": ("config",),
    "checkpoint": ("resume", "model"),
    "ckpt": ("resume", "model"),
    "config-file": ("config",),
    "cpus": ("num-workers", "cpus-per-trial"),
    "cuda": ("use-gpu",),
    "dataset": ("data", "queries"),
    "data-dir": ("data", "queries"),
    "data-root": ("data", "queries"),
    "date": ("before",),
    "debug": ("verbose",),
    "dest": ("output", "folder"),
    "device": ("use-gpu",),
    "dir": ("output", "folder"),
    "distance": ("metric", "validation.metric"),
    "endpoint": ("s3-endpoint",),
    "endpoint-url": ("s3-endpoint",),
    "experiments": ("num-samples",),
    "folds": ("val-fraction",),
    "fp16": ("precision",),
    "gpu": ("use-gpu",),
    "gpus": ("use-gpu",),
    "ground-truth": ("truth",),
    "gt": ("truth",),
    "id": ("person",),
    "images": ("data", "queries"),
    "img-size": ("network.height", "network.width", "height", "width"),
    "input": ("data", "queries"),
    "instances": ("batch.crops",),
    "iterations": ("epochs", "num-samples"),
    "jobs": ("num-workers", "concurrent"),
    "k": ("top-k",),
    "label-smoothing": ("loss.smoothing",),
    "learning-rate": ("optimizer.learning-rate",),
    "lr": ("optimizer.learning-rate",),
    "lr-scheduler": ("optimizer.schedule",),
    "max-epochs": ("epochs",),
    "minutes": ("max-minutes", "budget-minutes"),
    "model": ("network.name", "models"),
    "model-dir": ("model", "models", "network.name"),
    "model-path": ("model", "models"),
    "network": ("network.name", "model"),
    "num-epochs": ("epochs",),
    "num-gpus": ("use-gpu", "num-workers"),
    "num-instances": ("batch.crops",),
    "num-trials": ("num-samples",),
    "optim": ("optimizer.name",),
    "out": ("output", "folder"),
    "out-dir": ("output", "folder"),
    "output-dir": ("output", "folder"),
    "output": ("folder",),
    "path": ("data", "queries"),
    "pid": ("person",),
    "pred": ("ranking",),
    "predictions": ("ranking",),
    "pretrained": ("network.weights", "model"),
    "probe": ("queries",),
    "processes": ("num-workers",),
    "query": ("queries", "query-features"),
    "query-dir": ("queries",),
    "random-seed": ("seed",),
    "re-rank": ("rerank",),
    "restore": ("resume",),
    "root": ("data", "queries"),
    "samples": ("num-samples",),
    "save-dir": ("output", "folder"),
    "scheduler": ("optimizer.schedule", "search"),
    "store-dir": ("store",),
    "test": ("queries",),
    "threads": ("num-workers",),
    "threshold": ("max-distance", "false-accept-rate"),
    "time-limit": ("max-minutes", "budget-minutes"),
    "trials": ("num-samples",),
    "user": ("users",),
    "val-split": ("val-fraction",),
    "wd": ("optimizer.weight-decay",),
    "weights": ("network.weights", "model"),
    "work-dir": ("output", "folder"),
    "workers": ("num-workers",),
}
"""Names of flags in other tools, and our flags that mean the same, the likeliest first."""

MOST_DIGITS = 18
"""Of a whole number, so that it fits into 64 bits."""

WHOLE_NUMBER = re.compile(rf"[+-]?[0-9]{{1,{MOST_DIGITS}}}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Flag:
    """A flag of a job.

    Attributes:
        name: as it is typed, without the leading dashes.
        type: of its value.
        several: whether it takes several values, one after the other.
    """

    name: str
    type: Any
    several: bool = False

    @property
    def key(self) -> str:
        """The key of a configuration file that sets the same."""
        return self.name.replace("-", "_")

    def check(self, text: str) -> None:
        """Refuse the text of a value that is not of the flag's type.

        Raises:
            UserError: names the flag, and says what was expected.
        """
        if not _fits_text(self.type, text):
            raise UserError(f"--{self.name} {quoted(text)}: expected {expected(self.type, text)}")


def flags_of(*classes: type[Any]) -> dict[str, Flag]:
    """Return the flags of some configurations by their names, those of parts included."""
    found = {}
    for each in classes:
        for key, kind in keys_of(each).items():
            several = get_origin(kind) is tuple and "." not in key
            name = key.replace("_", "-")
            found[name] = Flag(name, get_args(kind)[0] if several else kind, several)
    return found


def keys_of(config_class: type[Any], above: str = "") -> dict[str, Any]:
    """Return the type of each key of a configuration, those of its parts with dots."""
    found: dict[str, Any] = {}
    hints = get_type_hints(config_class)
    for field in fields(config_class):
        kind = hints[field.name]
        if is_dataclass(kind):
            found |= keys_of(kind, f"{above}{field.name}.")  # type: ignore[arg-type]
        else:
            found[above + field.name] = kind
    return found


def check_flags(arguments: Sequence[str], flags: Mapping[str, Flag]) -> Iterator[str]:
    """Refuse a command line with a flag that does not exist, or a value that it cannot have.

    Yields:
        The name of each flag, in order.

    Raises:
        UserError: names the flag as it was typed, and what was expected.
    """
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        typed, joined, value = argument.partition("=")
        if not typed.startswith("-") or typed in ("-", "--"):
            raise UserError(
                f"{quoted(argument)} belongs to no flag: every value follows its flag, as in "
                "--data FOLDER"
            )
        flag = flags.get(typed.removeprefix("--")) if typed.startswith("--") else None
        negated = flags.get(typed.removeprefix("--no-"))
        if flag is None and negated is not None and negated.type is bool:
            flag = negated
        if flag is None:
            raise UserError(unknown_flag(typed, flags))
        yield flag.name
        if flag.type is bool:
            if joined:
                raise UserError(f"{typed} takes no value: leave out {quoted(joined + value)}")
            continue
        values = [value] if joined else _take_values(waiting, flag.several)
        if not values:
            raise UserError(f"{typed} has no value: expected {in_words(flag.type)}")
        for each in values:
            flag.check(each)


def unknown_flag(typed: str, flags: Mapping[str, Flag]) -> str:
    """Return the line about a flag that does not exist: what to type instead."""
    name = typed.lstrip("-").replace("_", "-").lower()
    shown = typed if len(typed) <= 60 else f"{typed[:60]}..."
    meant = [each for each in SYNONYMS.get(name, ()) if each in flags]
    ending = [each for each in flags if each.endswith(f".{name}")]
    parts = [each for each in flags if each.startswith(f"{name}.")]
    near = closest_name(name, flags)
    if name in flags:
        advice = f"did you mean --{name}?"
    elif meant:
        together = [each for each in meant if each.split(".")[0] == meant[0].split(".")[0]]
        advice = f"did you mean {' and '.join(f'--{each}' for each in together)}?"
    elif parts:
        advice = f"its settings are {', '.join(f'--{each}' for each in parts)}"
    elif ending:
        advice = f"did you mean {' or '.join(f'--{each}' for each in ending)}?"
    elif near is not None:
        advice = f"did you mean --{near}?"
    else:
        advice = "--help explains every flag"
    return f"flag {shown} does not exist: {advice}"


def in_words(kind: Any) -> str:
    """Return what a value of a type is, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return in_words(next(each for each in inner if each is not types.NoneType))
    if origin is Literal:
        return f"{', '.join(map(str, inner[:-1]))} or {inner[-1]}" if inner[1:] else str(inner[0])
    if origin is tuple:
        return f"a list such as [{_EXAMPLES.get(inner[0], 'A, B')}]"
    return _WORDS.get(kind, "another value")


def expected(kind: Any, value: object) -> str:
    """Return what was expected in place of a value that is not of a type, in words."""
    words = in_words(kind)
    if words == _WORDS[int] and re.fullmatch("[+-]?[0-9]+", str(value)[: MOST_DIGITS + 2]):
        return f"{words} of at most {MOST_DIGITS} digits"
    return words


def fits(kind: Any, value: object) -> bool:
    """Return whether a value of a configuration file is of a type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(each, value) for each in inner)
    if origin is Literal:
        return type(value) is str and value in inner
    if origin is tuple:
        return isinstance(value, list) and all(fits(inner[0], each) for each in value)
    if kind is float:
        return type(value) in (int, float) or (isinstance(value, str) and _fits_text(kind, value))
    if kind is int:
        return type(value) is int and abs(value) < 10**MOST_DIGITS
    return type(value) is kind


def as_number(kind: Any, value: Any) -> Any:
    """Return a value that fits a type, as a number where it is the text of one.

    YAML takes 1e-3, without a point, for text.
    """
    if isinstance(value, str) and not any(each is str for each in (kind, *get_args(kind))):
        return float(value) if get_origin(kind) is not Literal else value
    return [as_number(get_args(kind)[0], each) for each in value] if type(value) is list else value


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_EXAMPLES = {int: "1, 2", float: "0.5, 0.8"}


def _fits_text(kind: Any, text: str) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if "\0" in text:
        return False
    if origin in (Union, types.UnionType):
        return text == "null" or any(_fits_text(each, text) for each in inner)
    if origin is Literal:
        return text in inner
    if origin is tuple:
        listed = text.strip()
        if not (listed.startswith("[") and listed.endswith("]")):
            return False
        return all(_fits_text(inner[0], each.strip()) for each in listed[1:-1].split(","))
    if kind is int:
        return WHOLE_NUMBER.fullmatch(text) is not None
    if kind is float:
        return NUMBER.fullmatch(text) is not None
    return kind is not types.NoneType


def _take_values(waiting: list[str], several: bool) -> list[str]:
    """Take the values that follow a flag from the arguments that are left."""
    taken: list[str] = []
    while waiting and (several or not taken):
        word = waiting[0]
        if word.startswith("-") and word != "-" and not NUMBER.fullmatch(word):
            break
        taken.append(waiting.pop(0))
    return taken
