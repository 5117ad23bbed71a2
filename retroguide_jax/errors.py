"""The one exception that stands for a user's mistake rather than for a fault of the program."""

import importlib


class UserError(Exception):
    """Something the user can mend: a wrong name, a missing file, a value out of range.

    The message says what was wrong and where, then how to mend it, on one line. The command line
    prints it as `error: ...` with no traceback and exits with status 1.
    """


class StorageError(UserError):
    """Storage that does not answer, after it was asked several times.

    No fault of the command: it ends with the status by which schedulers start a job again.
    """


def require_packages(what: str, extra: str, *names: str) -> None:
    """Checks that the packages of an extra can be imported, and imports them.

    Args:
      what: needs them, for the message: "a report".
      extra: of setup.cfg, that brings them.
      *names: of modules.

    Raises:
      UserError: one is missing.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"{what} needs the package {error.name or name}: "
                f"pip install 'retroguide_jax[{extra}]'"
            ) from error
