"""The ways a job ends badly: by a mistake of the user's, or by a failure of machines."""


class UserError(Exception):
    """Something the user can mend.

    The message is one line: it names the thing, says what was expected and what to do.
    A job prints it without a traceback and exits with status 2.
    """


class MachineError(Exception):
    """A failure of machines or of a network, which may have passed when the job runs again.

    The message is one line. A job prints it without a traceback and exits with status 1.
    """
