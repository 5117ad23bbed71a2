"""The one exception that stands for a user's mistake rather than for a fault of the program."""


class UserError(Exception):
    """Something the user can mend: a wrong name, a missing file, a value out of range.

    The message says what was wrong and where, then how to mend it, on one line. The command line
    prints it as `error: ...` with no traceback and exits with status 1.
    """
