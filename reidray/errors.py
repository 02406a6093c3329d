"""Define the errors that end a job: a mistake of the user's, or a failure of machines."""

import re

FIELD = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:=([^`]*))?`")
"""A field in backticks, with a value or without: `batch_size`, `network.name=apr`."""


class UserError(Exception):
    """Report a mistake that the user can correct.

    The message is one line: it names the thing, what is wrong, and what to do.
    A job prints it without a traceback and exits with status 2.
    """


class MachineError(Exception):
    """Report a failure of machines or of a network, which may not occur when the job runs again.

    The message is one line. A job prints it without a traceback and exits with status 1.
    """
