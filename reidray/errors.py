"""Define the errors that end a job: a mistake of the user's, or a failure of machines."""

import errno
import re

FIELD = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:=([^`]*))?`")
"""A field in backticks, with a value or without: `batch_size`, `network.name=apr`."""

DISK_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Numbers of the errors of a disk that is full, or that has become read-only."""

NO_TEMPORARY_FOLDER = "No usable temporary directory"
"""Words of Python's error where no disk has room for a temporary file."""


class UserError(Exception):
    """Report a mistake that the user can correct.

    The message is one line: it names the thing, what is wrong, and what to do.
    A job prints it without a traceback and exits with status 2.
    """


class MachineError(Exception):
    """Report a failure of machines or of a network, which may not occur when the job runs again.

    The message is one line. A job prints it without a traceback and exits with status 1.
    """


def unwrap_task_error(error: BaseException) -> BaseException:
    """Return the error that a Ray task raised; any other error as it is.

    Ray raises another error in its place, whose message is a traceback.
    """
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def describe_reason(error: OSError) -> str:
    """Return the reason of an error of a disk or an object store in one line."""
    return " ".join(str(error.strerror or error).split())


def describe_disk_failure(error: BaseException | None) -> str | None:
    """Return one line about a disk that is full or read-only; None for any other error.

    >>> describe_disk_failure(OSError(28, "No space left on device", "scores/a.csv"))
    'scores/a.csv: cannot be written (No space left on device): make room, and run the job again'
    >>> describe_disk_failure(ValueError("28"))

    Args:
        error: what ended a job or one of its threads.
    """
    if not isinstance(error, OSError):
        return None
    reason = describe_reason(error)
    if error.errno not in DISK_FAILURES and not reason.startswith(NO_TEMPORARY_FOLDER):
        return None
    place = error.filename or "the disk"
    return f"{place}: cannot be written ({reason}): make room, and run the job again"
