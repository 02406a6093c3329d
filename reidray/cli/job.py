"""Run a job script: flags from a configuration, one JSON line, and exit statuses.

A script imports this module and nothing else at its top, so that a signal that arrives while the
others load is met like any other, and a mistake on the command line is told within a second.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reidray.errors import MachineError, UserError
from reidray.interrupts import end_interrupted, interrupted, watch_signals
from reidray.terminal import (
    give_up_broken_streams,
    print_result,
    set_up_streams,
    tell,
    tell_traceback,
)

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.cli.flags import Flag

Config = TypeVar("Config")

_flags: "dict[str, Flag]" = {}
"""The flags of the job of this process, which messages name in place of fields."""


def run_job(job: Callable[[], dict[str, Any]]) -> None:
    """Run a job, and end the process where it did not succeed.

    The last line of stdout is one JSON object: what the job returned, and the seconds it took. The
    process exits with 0, with 2 after one line for a mistake of the user's, or with 1 after one
    line for a failure of machines or the traceback of any other failure. A signal ends it with 128
    and its number after one line: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    watch_signals()
    try:
        set_up_streams()
        status = _run(job)
        give_up_broken_streams()
    except BaseException as error:
        if interrupted() or isinstance(error, KeyboardInterrupt):
            end_interrupted()
        raise
    if status:
        sys.exit(status)


def parse_config(
    config_class: type[Config],
    arguments: list[str],
    *,
    description: str | None = None,
    example: str | None = None,
) -> "JobArguments[Config]":
    """Return a job's configuration: its flags, over `--config FILE`, over a `--recipe NAME`.

    Args:
        config_class: a dataclass of dataclasses; each field becomes a flag and a key.
        arguments: the command line without the script's name.
        description: what `--help` says of the job.
        example: arguments with which the job does something; shown where none are given.

    Raises:
        UserError: a flag, a file or a value is not what it should be.
    """
    from reidray.cli.arguments import job_flags, parse_arguments  # slow to import

    _flags.update(job_flags(config_class))
    return parse_arguments(config_class, arguments, description=description, example=example)


def _run(job: Callable[[], dict[str, Any]]) -> int:
    """Run a job and return the exit status, but for that of a signal."""
    if "RAY_ADDRESS" not in os.environ:
        # Under `uv run` Ray would install the environment once more for its workers. Only a
        # submitted job may come to machines that lack it.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    start = time.perf_counter()
    try:
        result = job()
    except Exception as error:
        if interrupted():  # what the interruption broke is no failure
            raise
        if isinstance(error, UserError | MachineError):
            from reidray.cli.messages import name_flags

            tell(f"error: {name_flags(str(error), _flags)}")
            return 2 if isinstance(error, UserError) else 1
        tell_traceback()
        return 1
    result["seconds"] = round(time.perf_counter() - start, 2)
    print_result(json.dumps(result))
    return 0
