"""Write the text of `--help` from the docstrings and defaults of a configuration."""

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, get_args, get_origin

from reidray.config.sections.open_section import is_section, section_settings
from reidray.config.value_types import alternatives

DATA, MACHINES, MESSAGES = "data", "machines", "messages"
GROUPS = {
    "layout": DATA,
    "root": DATA,
    "follow_links": DATA,
    "strict": DATA,
    "max_bad": DATA,
    "keep_missing": DATA,
    "val_fraction": DATA,
    "split_order": DATA,
    "split_seed": DATA,
    "num_workers": MACHINES,
    "use_gpu": MACHINES,
    "sync_batchnorm": MACHINES,
    "precision": MACHINES,
    "compile": MACHINES,
    "ingest": MACHINES,
    "max_failures": MACHINES,
    "stall_timeout": MACHINES,
    "concurrent": MACHINES,
    "cpus_per_trial": MACHINES,
    "ray_address": MACHINES,
    "wait_for_resources": MACHINES,
    "min_workers": MACHINES,
    "verbose": MESSAGES,
}
"""The group of a field in the help; other fields belong to the group of the job."""

METAVARS = {int: "N", float: "X"}


@dataclass(frozen=True)
class HelpEntry:
    """Hold the help of a flag.

    Attributes:
        flag: the flag, with its dashes.
        text: a phrase about it, which ends without a period.
        metavar: placeholder for its value; None for a flag without a value.
        group: heading that it stands below.
        required: whether the job needs it.
    """

    flag: str
    text: str
    metavar: str | None
    group: str
    required: bool = False


def format_help(
    command: str, description: str, example: str | None, entries: Sequence[HelpEntry]
) -> str:
    """Return the help of a job.

    Args:
        command: the command without flags.
        description: a sentence about the job.
        example: flags with which the job does something.
        entries: help of the flags; the groups appear in the order of their first flags, after one
            of all that are required.
    """
    required = [entry for entry in entries if entry.required]
    usage = " ".join([command, *(f"{each.flag} {each.metavar}" for each in required), "[FLAGS]"])
    parser = argparse.ArgumentParser(
        usage=usage.replace("%", "%%"),
        description=description,
        epilog=f"example: {command} {example}".replace("%", "%%") if example else None,
        add_help=False,
    )
    groups: dict[str, Any] = {}
    for entry in (*required, *(entry for entry in entries if not entry.required)):
        title = "required" if entry.required else entry.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        settings: dict[str, Any] = {"metavar": entry.metavar}
        if entry.metavar is None:
            settings = {"action": "store_true"}
        groups[title].add_argument(
            entry.flag, help=entry.text.replace("`", "").replace("%", "%%"), **settings
        )
    return parser.format_help()


def describe_fields(config_class: type[Any], group: str, prefix: str = "") -> Iterator[HelpEntry]:
    """Yield the help of each field of a configuration, those of its sections last.

    Args:
        config_class: a dataclass whose docstrings have a section `Attributes`.
        group: heading of the fields that `GROUPS` does not list.
        prefix: name of the section and a dot.
    """
    settings = section_settings(config_class)
    for name, setting in settings.items():
        if is_section(setting.kind):
            continue
        text = attribute_docs(setting.documented_by).get(setting.attribute, "").rstrip(".")
        text += f" ({setting.note})" if setting.note else ""
        flag, repeats = f"{prefix}{name}".replace("_", "-"), not prefix
        yield HelpEntry(
            flag=f"--no-{flag}" if setting.default is True else f"--{flag}",
            text=_describe(name, text, setting.default),
            metavar=None if setting.kind is bool else _metavar(name, setting.kind, repeats=repeats),
            group=group if prefix else GROUPS.get(name, group),
            required=setting.default is MISSING,
        )
    for name, setting in settings.items():
        if is_section(setting.kind):
            yield from describe_fields(setting.kind, group if prefix else name, f"{prefix}{name}.")


def attribute_docs(config_class: type[Any]) -> dict[str, str]:
    """Return the texts about the attributes in the docstrings of a class and of its bases."""
    found: dict[str, str] = {}
    for each in reversed(config_class.__mro__):
        _, _, section = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition(
            "\nAttributes:\n"
        )
        for entry in re.split(r"\n(?= {4}\S)", re.split(r"\n(?=\S)", section)[0]):
            name, separator, text = entry.strip().partition(":")
            if separator:
                found[name] = " ".join(text.split())
    return found


def _describe(name: str, text: str, default: object) -> str:
    """Return the text about a field, with its default where that is informative."""
    text = text.rstrip(".")
    if default is True:
        return f"do not {text}" if text else f"turn {name} off"
    if default is MISSING or default is None or default is False or default == ():
        return text
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})"


def _metavar(name: str, kind: Any, *, repeats: bool) -> str:
    """Return the placeholder for a value of a type, such as `N` or `{auto,yes,no}`."""
    several = [each for each in alternatives(kind) if get_origin(each) is tuple]
    kind = several[0] if several else kind
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    if origin is tuple:
        one = _metavar(name, arguments[0], repeats=False)
        return f"{one} [{one} ...]" if repeats else f"[{one},...]"
    if arguments:
        return _metavar(name, arguments[0], repeats=repeats)
    return METAVARS.get(kind, name.upper())


def describe_flags(entries: Mapping[str, tuple[str | None, str]], group: str) -> list[HelpEntry]:
    """Return the help of flags that set no field: metavariable and text by name."""
    return [
        HelpEntry(f"--{name}", text, metavar, group) for name, (metavar, text) in entries.items()
    ]
