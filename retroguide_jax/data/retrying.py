"""Retries reads after storage errors: a network file system may fail briefly without damage."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from retroguide_jax.errors import StorageError
from retroguide_jax.progress import print_line
from retroguide_jax.text import one_line

# Seconds before each further attempt; in total about a minute, the time a server takes to restart.
DELAYS = (0.1, 1.0, 5.0, 15.0, 40.0)
# How ArrayRecord's reader reports system calls: "pread() failed: Input/output error; reading ...".
# Records that it calls corrupted were read; reading them again would not help.
_SYSTEM_CALL = re.compile(r"\w+\(\) failed: ")
_T = TypeVar("_T")


def is_storage_error(error: BaseException) -> bool:
    """Whether storage failed, as opposed to data that was read but is damaged."""
    return isinstance(error, OSError) or bool(_SYSTEM_CALL.match(str(error)))


def read_with_retries(read_fn: Callable[[], _T], reopen_fn: Callable[[], None], what: str) -> _T:
    """Calls `read_fn`; if storage fails, waits with growing delays, reopens and calls it again.

    Args:
      read_fn: performs the read.
      reopen_fn: opens the file again; a stale handle stays stale.
      what: name of the data that is read, for messages.

    Raises:
      StorageError: storage failed at every attempt.
      Exception: any other error of `read_fn`, raised at once.
    """
    for delay in DELAYS:
        try:
            return read_fn()
        except Exception as error:
            if not is_storage_error(error):
                raise
            print_line(f"warning: {what}: {one_line(error)}: reading it again in {delay:g} s")
        time.sleep(delay)
        try:
            reopen_fn()
        except Exception as error:
            if not is_storage_error(error):
                raise
    try:
        return read_fn()
    except Exception as error:
        if not is_storage_error(error):
            raise
        raise StorageError(
            f"{what}: {one_line(error)}, {1 + len(DELAYS)} times: the storage does not answer; "
            "look at the disk or mount and run the same command again"
        ) from error
