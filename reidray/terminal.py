"""The standard streams of a job: safe to show, whatever a message repeats and whoever reads it."""

import contextlib
import logging
import os
import sys
import traceback
from pathlib import PurePath

CLOSED = os.devnull
LONGEST_LINE = 4000
"""Characters of a line about a mistake."""


def printable(text: str) -> str:
    """Return a text as one line without control codes.

    White space becomes a space. What else a terminal would act on or not show, as escape
    sequences, text that runs the other way, and bytes that are no text, becomes its code.
    """
    return text if text.isprintable() else "".join(map(_printable_mark, text))


def printable_lines(text: str) -> str:
    """Return a text of several lines without control codes."""
    return "\n".join(map(printable, text.split("\n")))


def set_up_streams() -> None:
    """Prepare the standard streams and the logging of a job.

    Messages of the loggers of `reidray` go to stderr from INFO on, all others from WARNING on. A
    stream that was closed before the process started is opened as one that nobody reads, for else
    the first file that is opened would take its place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(CLOSED, os.O_RDWR)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115 - it stays open
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("reidray").setLevel(logging.INFO)


def shortened(line: str) -> str:
    """Return a line of bounded length: what is left out of its middle is counted."""
    left_out = len(line) - LONGEST_LINE
    if left_out <= 0:
        return line
    half = LONGEST_LINE // 2
    return f"{line[:half]} [... {left_out:,} characters ...] {line[-half:]}"


def tell(line: str) -> None:
    """Write a line to stderr, if anybody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(shortened(line)), file=sys.stderr, flush=True)


def tell_traceback() -> None:
    """Write the traceback of the exception that is being handled to stderr."""
    with contextlib.suppress(OSError, ValueError):
        print(printable_lines(traceback.format_exc().rstrip()), file=sys.stderr, flush=True)


def print_result(line: str) -> None:
    """Write the last line of stdout; where nobody takes it, a warning says so."""
    try:
        print(line, flush=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        tell(f"warning: the job is done, and its result cannot be written to stdout ({reason})")


def give_up_broken_streams() -> None:
    """Drop what stdout and stderr could not write: Python would make a failure of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(CLOSED, os.O_WRONLY), stream.fileno())


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr; what nobody reads is dropped."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass over a stream that is closed or full, and show any other error as usual."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _PrintableFormatter(logging.Formatter):
    """Shows the names that a message repeats as one line without control codes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message; its own line breaks stay."""
        shown = logging.makeLogRecord(record.__dict__)
        if isinstance(record.args, tuple):
            shown.args = tuple(map(_printable_value, record.args))
        return printable_lines(super().format(shown))


def _printable_value(value: object) -> object:
    if isinstance(value, str | PurePath | BaseException):
        return printable(str(value))
    return value


def _printable_mark(mark: str) -> str:
    if mark.isprintable():
        return mark
    if mark.isspace():
        return " "
    return mark.encode("unicode_escape", "surrogatepass").decode()
