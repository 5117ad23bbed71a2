"""A process that fails terminates the whole job: the others would wait for it in a collective.

Without this, the failing process would itself wait for the others for five minutes, in JAX's
shutdown barrier. A process that dies without reporting (SIGKILL, a lost machine) is detected by
JAX's heartbeats instead, see `processes.join_processes`.
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

# 128 + SIGALRM: the command is not at fault, and a restart may succeed. xpk restarts on 127..255.
STUCK_STATUS = 142
_KEY = "failed"
# Time for the others to exit with an error of their own, which says more. Process 0 exits last,
# because JAX aborts the others once it is gone.
_GRACE_SECONDS = 2.0
# Time for the failing process to close its files, which may block on a process that never comes.
_CLOSING_SECONDS = 10.0
_is_leaving = threading.Event()


def choose_status(error: BaseException) -> int:
    """The exit status of a process that ends with this error.

    1 means an error that would recur. JAX's own errors (except too little memory or an invalid
    argument) mostly come from the loss of another process, so they give `STUCK_STATUS`, as does
    storage that does not answer. Ctrl-C gives 130.
    """
    if isinstance(error, StorageError):
        return STUCK_STATUS
    if isinstance(error, KeyboardInterrupt):
        return 130
    is_reported = type(error).__name__ == "JaxRuntimeError"
    is_lost = is_reported and not str(error).startswith(("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"))
    return STUCK_STATUS if is_lost else 1


def describe(error: BaseException) -> str:
    """The first line of an error's message, with the error's type unless it is a `UserError`."""
    lines = str(error).strip().splitlines()
    if isinstance(error, UserError) and lines:
        return lines[0]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def follow_failures() -> None:
    """Ends this process soon after any process of the job has reported that it failed."""
    service.watch(_KEY, _end_with)


def report_failure(error: BaseException | str, status: int) -> None:
    """Reports to all processes that this one ends, why and with which exit status.

    Only the first report of a job counts. Does nothing in a process that is alone.
    """
    if not service.is_joined():
        return
    text = error if isinstance(error, str) else describe(error)
    sender_facts = {"process": service.process_index(), "name": service.name_process()}
    notice = json.dumps(sender_facts | {"text": text, "status": status})
    # The coordinator may be dead; do not let shutdown block on it.
    sender = threading.Thread(target=_send, args=(notice,), daemon=True)
    sender.start()
    sender.join(timeout=5)


def leave(status: int) -> NoReturn:
    """Ends this process at once, without JAX's shutdown barrier, which waits for the others."""
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
    """Flushes stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader of a pipe may be gone
            stream.flush()


def _send(notice: str) -> None:
    with contextlib.suppress(RuntimeError):
        service.put(_KEY, notice)


def _end_with(notice: str) -> None:
    failed = json.loads(notice)
    is_own = failed["process"] == service.process_index()
    time.sleep(_CLOSING_SECONDS if is_own else _GRACE_SECONDS)
    if _is_leaving.is_set():
        return
    print(f"{failed['name']} failed: {failed['text']}: ending", file=sys.stderr)
    if failed["status"] == STUCK_STATUS:
        dump_stacks()  # the cause of a stuck job shows in the stacks of all processes together
    leave(failed["status"])
