"""Write to the standard streams of a job, without control codes and without failing."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import PurePath

CLOSED = os.devnull
MAX_LINE_LENGTH = 4000
"""The most characters of the line about an error."""


def printable(text: str) -> str:
    """Return a text as one line without control codes.

    White space becomes a space. Other characters that a terminal acts on or does not show become
    their codes: escape sequences, marks of the writing direction, and bytes that are no text.
    """
    return text if text.isprintable() else "".join(map(_printable_mark, text))


def printable_lines(text: str) -> str:
    """Return a text with its line breaks and without other control codes."""
    return "\n".join(map(printable, text.split("\n")))


def count_noun(count: float, noun: str) -> str:
    """Return a count with its noun, in the singular or the plural.

    >>> count_noun(1, "GPU"), count_noun(0.5, "CPU"), count_noun(1200, "image")
    ('1 GPU', '0.5 CPUs', '1,200 images')
    """
    amount = int(count) if count == int(count) else count
    return f"{amount:,} {noun}{'' if count == 1 else 's'}"


def align_columns(rows: Iterable[Sequence[object]]) -> list[str]:
    """Return rows as lines; the first column begins, and the others end, at the same place.

    >>> align_columns([["a", "long"], ["bc", 1]])
    ['a   long', 'bc     1']
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def set_up_streams() -> None:
    """Set up the standard streams and the logging of a job.

    The loggers of `reidray` write messages from INFO on to stderr, other loggers from WARNING on.
    If a stream was closed before the process started, it is opened on the null device. Otherwise
    the first file that is opened would take its descriptor.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(CLOSED, os.O_RDWR)  # it takes the lowest free descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115 - it stays open
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("reidray").setLevel(logging.INFO)


def shorten_line(line: str) -> str:
    """Return a line of bounded length, with the number of characters left out of its middle."""
    left_out = len(line) - MAX_LINE_LENGTH
    if left_out <= 0:
        return line
    half = MAX_LINE_LENGTH // 2
    return f"{line[:half]} [... {left_out:,} characters ...] {line[-half:]}"


def print_message(line: str) -> None:
    """Write a line to stderr; ignore a stream that is closed or full."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(shorten_line(line)), file=sys.stderr, flush=True)


def print_traceback() -> None:
    """Write the traceback of the exception that is being handled to stderr."""
    with contextlib.suppress(OSError, ValueError):
        print(printable_lines(traceback.format_exc().rstrip()), file=sys.stderr, flush=True)


def print_result(line: str) -> None:
    """Write the last line of stdout, or a warning on stderr if stdout cannot be written."""
    try:
        print(line, flush=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        print_message(
            f"warning: the job is done, and its result cannot be written to stdout ({reason})"
        )


def discard_unwritten_output() -> None:
    """Discard the output that stdout and stderr could not write, so that Python exits with 0."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(CLOSED, os.O_WRONLY), stream.fileno())


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Write messages to stderr, and ignore a stream that is closed or full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Ignore a stream that is closed or full, and handle any other error as usual."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _PrintableFormatter(logging.Formatter):
    """Format messages without control codes in the names that they contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message with its own line breaks."""
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
