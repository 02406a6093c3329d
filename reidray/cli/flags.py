"""Parse the flags of a job. Each flag sets a field of its configuration."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from reidray.config.value_types import alternatives, describe_type, parse_text, value_types
from reidray.errors import UserError
from reidray.suggestions import closest_name, quoted

NEGATIVE = re.compile(r"-\.?[0-9]")
"""Beginning of a value that no flag has."""

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
    "dest": ("output",),
    "device": ("use-gpu",),
    "dir": ("output",),
    "distance": ("metric", "validation.metric"),
    "endpoint": ("s3-endpoint",),
    "endpoint-url": ("s3-endpoint",),
    "experiments": ("num-samples",),
    "folder": ("output", "data"),
    "folds": ("val-fraction",),
    "fp16": ("precision",),
    "gpu": ("use-gpu",),
    "gpus": ("use-gpu",),
    "ground-truth": ("truth",),
    "gt": ("truth",),
    "id": ("person",),
    "image-size": ("network.height", "network.width", "height", "width"),
    "images": ("data", "queries"),
    "img-size": ("network.height", "network.width", "height", "width"),
    "input": ("data", "queries"),
    "input-size": ("network.height", "network.width", "height", "width"),
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
    "out": ("output",),
    "out-dir": ("output",),
    "output-dir": ("output",),
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
    "save-dir": ("output",),
    "scheduler": ("optimizer.schedule", "search"),
    "size": ("network.height", "network.width", "height", "width"),
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
    "work-dir": ("output",),
    "workers": ("num-workers",),
}
"""The flags that correspond to the names in other tools, the likeliest first."""


TRUTHS = ("true", "false", "yes", "no", "on", "off")
AUTO_BATCH_FLAGS = ("--batch", "--batch-size", "--batch.people")
"""Flags whose value `auto` means `--auto-batch`."""


@dataclass(frozen=True)
class Flag:
    """Describe a flag of a job.

    Attributes:
        name: name without the leading dashes.
        type: type of a value.
        several: whether the flag takes several values, one after the other.
    """

    name: str
    type: Any
    several: bool = False

    @property
    def key(self) -> str:
        """Return the key of a configuration file that sets the same field."""
        return self.name.replace("-", "_")

    def parse(self, text: str) -> Any:
        """Return the value that a text stands for.

        Raises:
            UserError: the text is not of the flag's type; the message names the flag and the type.
        """
        try:
            return parse_text(self.type, text)
        except ValueError as error:
            raise UserError(f"--{self.name} {quoted(text)}: {error}") from None


def flags_of(*classes: type[Any], keys: Iterable[str] = ()) -> dict[str, Flag]:
    """Return the flags of some configurations by their names, those of sections included.

    Args:
        classes: the configurations.
        keys: keys to find. Where an open section lacks one, all its parts are imported first.
    """
    found = {}
    for each in classes:
        for key, kind in value_types(each, keys).items():
            values = next((each for each in alternatives(kind) if get_origin(each) is tuple), None)
            several = values is not None and "." not in key
            name = key.replace("_", "-")
            found[name] = Flag(name, get_args(values)[0] if several else kind, several)
    return found


def parse_flags(arguments: Sequence[str], flags: Mapping[str, Flag]) -> dict[str, list[Any]]:
    """Return the values that a command line gives each flag, in their order.

    A flag of several values gives a tuple each time that it occurs.

    Raises:
        UserError: a flag does not exist, or a value is not of its type. The message names the flag
            as it was typed, and the expected type.
    """
    found: dict[str, list[Any]] = {}
    waiting = _expand_auto_batch(arguments) if "auto-batch" in flags else list(arguments)
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
        is_negated = flag is None and negated is not None and negated.type is bool
        flag = negated if is_negated else flag
        if flag is None:
            raise UserError(describe_unknown_flag(typed, flags))
        values = found.setdefault(flag.name, [])
        if flag.type is bool:
            if joined or (waiting and waiting[0].lower() in TRUTHS):
                text = joined + value if joined else waiting[0]
                raise UserError(
                    f"{typed} takes no value: leave out {quoted(text)}; --{flag.name} says yes and "
                    f"--no-{flag.name} no"
                )
            values.append(not is_negated)
            continue
        texts = [value] if joined else _take_texts(waiting, several=flag.several)
        if not texts:
            raise UserError(f"{typed} has no value: expected {describe_type(flag.type)}")
        parsed = tuple(flag.parse(text) for text in texts)
        values.append(parsed if flag.several else parsed[0])
    return found


def read_flag(name: str, arguments: Sequence[str]) -> list[str]:
    """Return the texts that a command line gives one flag, before the other flags are known."""
    found: list[str] = []
    waiting = list(arguments)
    while waiting:
        typed, joined, text = waiting.pop(0).partition("=")
        if typed == f"--{name}":
            found += [text] if joined else _take_texts(waiting, several=True)
    return found


def describe_unknown_flag(typed: str, flags: Mapping[str, Flag]) -> str:
    """Return a message about a flag that does not exist, with the flags it may stand for."""
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
        if typed in AUTO_BATCH_FLAGS and "auto-batch" in flags:
            advice += f", and {typed} auto finds the largest"
    elif ending:
        advice = f"did you mean {' or '.join(f'--{each}' for each in ending)}?"
    elif near is not None:
        advice = f"did you mean --{near}?"
    else:
        advice = "--help explains every flag"
    return f"flag {shown} does not exist: {advice}"


def _expand_auto_batch(arguments: Sequence[str]) -> list[str]:
    """Return a command line with `--auto-batch` in place of `--batch auto` or `--batch=auto`."""
    expanded: list[str] = []
    for argument in arguments:
        typed, _, value = argument.partition("=")
        if value == "auto" and typed in AUTO_BATCH_FLAGS:
            expanded.append("--auto-batch")
        elif argument == "auto" and expanded and expanded[-1] in AUTO_BATCH_FLAGS:
            expanded[-1] = "--auto-batch"
        else:
            expanded.append(argument)
    return expanded


def _take_texts(waiting: list[str], *, several: bool) -> list[str]:
    """Remove the values that follow a flag from the waiting arguments, and return them."""
    taken: list[str] = []
    while waiting and (several or not taken):
        word = waiting[0]
        if word.startswith("-") and word != "-" and not NEGATIVE.match(word):
            break
        taken.append(waiting.pop(0))
    return taken
