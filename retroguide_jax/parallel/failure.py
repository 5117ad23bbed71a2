"""A process that fails ends the whole job: the others would wait for it in a collective.

Left alone, it would itself wait for the others, in the barrier that JAX puts at a process's end,
for five minutes. One that is gone without a word (SIGKILL, a lost machine) is noticed by JAX's
heartbeats instead, see `processes.join_processes`.
"""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from typing import NoReturn

from retroguide_jax.errors import StorageError, UserError
from retroguide_jax.parallel import service

# 128 + SIGALRM: what stopped was no fault of the command, and may go better if it is started again.
# Within the 127..255 that xpk restarts.
STUCK_STATUS = 142
_KEY = "failed"
# For the others to end by an error of their own, which says more, and for the first process, whose
# end JAX answers by aborting the others, to be the last.
_GRACE_SECONDS = 2.0
# For the failing one to close its files, which may wait for a process that does not come.
_CLOSING_SECONDS = 10.0
_is_leaving = threading.Event()


def choose_status(error: BaseException) -> int:
    """The exit status of a process that ends by this error.

    1 is a mistake that would come again. What JAX reports of its devices and connections (except
    too little memory) is mostly the loss of another process: `STUCK_STATUS`. So is storage that
    does not answer.
    """
    if isinstance(error, StorageError):
        return STUCK_STATUS
    if isinstance(error, KeyboardInterrupt):
        return 130
    is_reported = type(error).__name__ == "JaxRuntimeError"
    is_lost = is_reported and not str(error).startswith(("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"))
    return STUCK_STATUS if is_lost else 1


def describe(error: BaseException) -> str:
    """An error in one line: the first of its message, with its type unless it is the user's."""
    lines = str(error).strip().splitlines()
    if isinstance(error, UserError) and lines:
        return lines[0]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def follow_failures() -> None:
    """Ends this process soon after any of the job has told that it failed."""
    service.watch(_KEY, _end_with)


def tell_failure(error: BaseException | str, status: int) -> None:
    """Tells all processes that this one ends, why and by which exit status; only the first counts.

    Does nothing in a process alone.
    """
    if not service.is_joined():
        return
    text = error if isinstance(error, str) else describe(error)
    told = {"process": service.process_index(), "name": service.name_process()}
    notice = json.dumps(told | {"text": text, "status": status})
    # A coordinator that is gone takes no words, and the end must not wait for it.
    sender = threading.Thread(target=_send, args=(notice,), daemon=True)
    sender.start()
    sender.join(timeout=5)


def leave(status: int) -> NoReturn:
    """Ends this process at once, without the barrier at which JAX lets it wait for the others."""
    _is_leaving.set()
    flush_output()
    if service.is_joined() and service.process_index() == 0:
        time.sleep(2 * _GRACE_SECONDS)
    os._exit(status)


def dump_stacks() -> None:
    """Prints the Python stack of every thread on stderr."""
    flush_output()
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)


def flush_output() -> None:
    """Writes out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has left
            stream.flush()


def _send(notice: str) -> None:
    with contextlib.suppress(RuntimeError):
        service.put(_KEY, notice)


def _end_with(notice: str) -> None:
    told = json.loads(notice)
    is_own = told["process"] == service.process_index()
    time.sleep(_CLOSING_SECONDS if is_own else _GRACE_SECONDS)
    if _is_leaving.is_set():
        return
    print(f"{told['name']} failed: {told['text']}: ending", file=sys.stderr)
    if told["status"] == STUCK_STATUS:
        dump_stacks()  # of a job that is stuck the places of all processes tell the cause
    leave(told["status"])
