"""Parse the command line of `cluster/local`, and end a command with its exit status."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from reidray.errors import MachineError, UserError
from reidray.terminal import discard_unwritten_output, print_message


class CommandParser(argparse.ArgumentParser):
    """Parse a command line, and report a mistake in one line."""

    def __init__(self, command: str, description: str | None, usage: str | None = None) -> None:
        prog = f"cluster/local/{command}"
        super().__init__(prog=prog, description=description, usage=usage, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise a mistake of the user's.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; {self.prog} --help shows what there is")


def count(text: str) -> int:
    """Return a number of CPUs or GPUs.

    Raises:
        argparse.ArgumentTypeError: the text is no whole number, or a negative one.
    """
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, as in 4")
    return int(text)


def exit_with(main: Callable[[], int]) -> None:
    """Run a command and exit with its status: 2 for a user's mistake, 1 for a failure."""
    try:
        status = main()
    except UserError as error:
        print_message(f"error: {error}")
        status = 2
    except MachineError as error:
        print_message(f"failed: {error}")
        status = 1
    except BrokenPipeError:  # as in `cluster/local/logs JOB | head`
        status = 128 + signal.SIGPIPE
    discard_unwritten_output()
    sys.exit(status)
