"""Errors that a user can fix, as opposed to faults of the program."""

import importlib


class UserError(Exception):
    """An error that the user can fix: a wrong name, a missing file, a value out of range.

    The message says on one line what is wrong, where, and how to fix it. The command line prints
    it as `error: ...` without a traceback and exits with status 1.
    """


class StorageError(UserError):
    """Storage that does not answer after several attempts.

    The command is not at fault: it exits with the status on which schedulers restart a job.
    """


def require_packages(what: str, extra: str, *names: str) -> None:
    """Checks that the packages of an extra can be imported, and imports them.

    Args:
      what: the feature that needs them, for the message, such as "a report".
      extra: the extra of setup.cfg that installs them.
      *names: names of modules.

    Raises:
      UserError: a package is missing.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"{what} needs the package {error.name or name}: "
                f"pip install 'retroguide_jax[{extra}]'"
            ) from error
