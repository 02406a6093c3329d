"""Run a job: its command line, one JSON line, and exit statuses.

The modules of jobs import this module alone at their top. So a signal that arrives while PyTorch
and Ray load ends the job like any other, and a mistake on the command line is found before.
"""

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from reidray.errors import MachineError, UserError, describe_disk_failure, unwrap_task_error
from reidray.interrupts import end_interrupted, interrupted, watch_signals
from reidray.terminal import (
    discard_unwritten_output,
    print_message,
    print_result,
    print_traceback,
    set_up_streams,
)

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments


@dataclass(frozen=True, kw_only=True)
class Job:
    """Describe a job of the command line.

    Attributes:
        name: its subcommand of `reidray`, such as `train-reid`.
        description: a sentence about it.
        config: module and class of its configuration, as `reidray.config:TrainReidConfig`. The
            module is imported when the job runs.
        run: does the work and returns what the JSON line holds.
        example: flags with which the job does something, shown where none are given.
    """

    name: str
    description: str
    config: str
    run: Callable[["JobArguments[Any]"], dict[str, Any]]
    example: str | None = None

    @property
    def config_class(self) -> type[Any]:
        """The class of the configuration."""
        return resolve_name(self.config)  # type: ignore[no-any-return]

    def main(self, words: Sequence[str] | None = None, *, command: str | None = None) -> None:
        """Run the job, and end the process where it does not succeed.

        Args:
            words: the command line after the command; by default that of this process.
            command: the command, for messages; by default the script of this process.
        """
        if words is None:
            words = sys.argv[1:]
        if command is None:
            command = script_command()
        run_job(lambda: self._run(list(words), command))

    def _run(self, words: list[str], command: str) -> dict[str, Any]:
        from reidray.cli.arguments import job_flags, parse_arguments
        from reidray.cli.help_requests import answer_help_request
        from reidray.cli.messages import naming_flags

        config_class, example = self.config_class, self.example
        answer_help_request(
            config_class, words, command=command, description=self.description, example=example
        )
        arguments = parse_arguments(config_class, words, command=command, example=example)
        with naming_flags(job_flags(config_class)):
            return self.run(arguments)


def script_command() -> str:
    """Return the command that started this script, without its flags."""
    return f"{'uv run' if is_run_by_uv() else 'python'} {shlex.quote(sys.argv[0])}"


def is_run_by_uv() -> bool:
    """Return whether `uv run` started this process."""
    return "UV_RUN_RECURSION_DEPTH" in os.environ


def run_job(job: Callable[[], dict[str, Any]]) -> None:
    """Run a function as a job, and end the process where it does not succeed.

    The last line of stdout is one JSON object: what the function returned, and the seconds it took.
    The process exits with 0, with 2 after one line for a mistake of the user's, or with 1 after one
    line for a failure of machines or the traceback of any other failure. A signal ends it with 128
    and its number after one line: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    watch_signals()
    threading.excepthook = _tell_failed_thread
    try:
        set_up_streams()
        status = _exit_status(job)
        discard_unwritten_output()
    except BaseException as error:
        if interrupted() or isinstance(error, KeyboardInterrupt):
            end_interrupted()
        raise
    if status:
        sys.exit(status)


def _tell_failed_thread(failed: threading.ExceptHookArgs) -> None:
    """Print one line for a thread that a full disk ended, and a traceback for any other error.

    The writer of TensorBoard is such a thread. Its error ends the job too.
    """
    failure = describe_disk_failure(failed.exc_value)
    if failure is None:
        threading.__excepthook__(failed)
    else:
        print_message(f"warning: {failure}")


def _exit_status(job: Callable[[], dict[str, Any]]) -> int:
    """Run a job, print its result, and return the exit status, except that of a signal."""
    if "RAY_ADDRESS" not in os.environ:
        # Under `uv run` Ray would install the environment once more for its workers. Only a
        # submitted job may come to machines that lack it.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    start = time.perf_counter()
    try:
        result = job()
    except Exception as error:
        if interrupted():  # the interruption caused the error
            raise
        raised = unwrap_task_error(error)
        if isinstance(raised, UserError):
            print_message(f"error: {raised}")
            return 2
        failure = str(raised) if isinstance(raised, MachineError) else describe_disk_failure(raised)
        if failure is not None:
            print_message(f"error: {failure}")
            return 1
        print_traceback()
        return 1
    result["seconds"] = round(time.perf_counter() - start, 2)
    print_result(json.dumps(result))
    return 0
