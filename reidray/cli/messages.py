"""Name the flags of a job in place of the fields that the library names in messages."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reidray.cli.flags import Flag
from reidray.errors import FIELD, MachineError, UserError, unwrap_task_error


def name_flags(message: str, flags: Mapping[str, Flag]) -> str:
    """Return a message with the flags of a job in place of the fields that it names.

    >>> flags = {"batch-size": Flag("batch-size", int), "strict": Flag("strict", bool)}
    >>> name_flags("`batch_size` is 64: use `batch_size=32` or `strict=False`", flags)
    '--batch-size is 64: use --batch-size 32 or --no-strict'
    >>> name_flags("`epochs` is no flag, and `uv run` no field", flags)
    '`epochs` is no flag, and `uv run` no field'

    Args:
        message: a message of the library, which names fields in backticks.
        flags: the flags of the job by name. Fields without a flag stay as they are.
    """

    def name_flag(found: re.Match[str]) -> str:
        field, value = found.groups()
        flag = flags.get(field.replace("_", "-"))
        if flag is None:
            return found[0]
        if flag.type is bool:
            return f"--no-{flag.name}" if value == "False" else f"--{flag.name}"
        return f"--{flag.name}" if value is None else f"--{flag.name} {value}"

    return FIELD.sub(name_flag, message)


@contextmanager
def naming_flags(flags: Mapping[str, Flag]) -> Iterator[None]:
    """Name flags in place of fields in the errors that the block raises, and in what it logs."""

    def name_in_record(record: logging.LogRecord) -> bool:
        record.msg = name_flags(str(record.msg), flags)
        if isinstance(record.args, tuple):
            record.args = tuple(
                name_flags(each, flags) if isinstance(each, str) else each for each in record.args
            )
        return True

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(name_in_record)
    try:
        yield
    except (UserError, MachineError) as error:
        raised = unwrap_task_error(error)
        message = name_flags(str(raised), flags)
        if message == str(error):
            raise
        raise type(raised)(message) from error
    finally:
        for handler in handlers:
            handler.removeFilter(name_in_record)
