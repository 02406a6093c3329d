"""Answer command lines that request a text: usage, help, version, recipes and search spaces."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from reidray.cli.arguments import (
    FILE_FLAGS,
    MACHINE_FLAGS,
    MESSAGE_FLAGS,
    PLAN_FLAGS,
    RECIPE_FLAGS,
    SessionConfig,
    has_plan,
    has_recipes,
    import_named_plugins,
    job_flags,
    print_and_exit,
)
from reidray.cli.help import HelpEntry, describe_fields, describe_flags, format_help
from reidray.cli.messages import name_flags
from reidray.config.loading import describe_files, recipe_files, space_files


def answer_help_request(
    config_class: type[Any],
    words: list[str],
    *,
    command: str,
    description: str,
    example: str | None,
) -> None:
    """Answer a command line that is empty or only requests a text, and end the process.

    Args:
        config_class: the configuration of the job.
        words: the command line after the command.
        command: the command.
        description: a sentence about the job.
        example: flags with which the job does something; None where it needs none.
    """
    if not words and example is not None:
        with contextlib.suppress(OSError, ValueError):  # no process reads the output
            print(
                f"{description}\n\nusage:   {command} FLAGS\n"
                f"example: {command} {example}\n\n--help explains every flag.",
                file=sys.stderr,
                flush=True,
            )
        sys.exit(2)
    if "--version" in words:
        print_and_exit(f"reidray {version('reidray')}")
    if {"-h", "--help"} & set(words):
        import_named_plugins(config_class, words)
        flags = job_flags(config_class)
        entries = [
            replace(entry, text=name_flags(entry.text, flags))
            for entry in _help_entries(config_class)
        ]
        print_and_exit(format_help(command, description, example, entries))
    for name, find in {"recipe": recipe_files, "space": space_files}.items():
        if name in job_flags(config_class) and _has_value(words, f"--{name}", "list"):
            print_and_exit(_list_files(config_class, find))


def _has_value(words: list[str], flag: str, value: str) -> bool:
    """Return whether a command line gives a flag this value first."""
    return f"{flag}={value}" in words or (flag, value) in pairwise(words)


def _list_files(config_class: type[Any], find: Callable[[str], dict[str, Path]]) -> str:
    """Return a line for each recipe or search space of a job, below each kind of a sweep."""
    if has_recipes(config_class):
        return "\n".join(_describe_files(find(config_class.RECIPES)))
    lines = []
    for kind in ("reid", "multitask"):
        lines += [f"--task {kind}:", *(f"  {line}" for line in _describe_files(find(kind)))]
    return "\n".join(lines)


def _describe_files(found: Mapping[str, Path]) -> list[str]:
    """Return the name of each file beside the first line about it, and the others below."""
    width = max(map(len, found)) + 2
    lines = []
    for name, (first, *others) in describe_files(found).items():
        lines += [f"{name:{width}}{first}", *(" " * width + text for text in others)]
    return lines


def _help_entries(config_class: type[Any]) -> list[HelpEntry]:
    """Return the help of all flags of a job, in order."""
    own = list(describe_fields(config_class, "options"))
    sections = [entry for entry in own if "." in entry.flag]
    return [
        *describe_flags(RECIPE_FLAGS if has_recipes(config_class) else {}, "recipes and files"),
        *describe_flags(FILE_FLAGS, "recipes and files"),
        *(entry for entry in own if entry not in sections),
        *sections,
        *describe_flags(PLAN_FLAGS if has_plan(config_class) else {}, "machines"),
        *describe_fields(SessionConfig, "machines"),
        *describe_flags(MACHINE_FLAGS, "machines"),
        *describe_flags(MESSAGE_FLAGS, "messages"),
    ]
