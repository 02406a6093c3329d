"""The two ways a job ends badly: a mistake of the user's, and a failure."""


class UserError(Exception):
    """Something the user can mend.

    The message is one line: it names the thing, says what was expected and what to do.
    A job prints it without a traceback and exits with status 2.
    """
