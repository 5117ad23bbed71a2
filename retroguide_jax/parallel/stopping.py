"""SIGINT and SIGTERM: all processes of a job stop after the same step, whichever got the signal."""

import contextlib
import signal
import threading

from retroguide_jax.parallel import failure, service

_KEY = "stop"


class Stopper:
    """Context manager: the first signal requests a clean stop, the second ends the process at once.

    Every process calls `check` after every step. The one that got a signal notifies the others.
    Then, in each process, a thread blocks the next check and reports how many checks have been
    passed: all stop at the first check that no process has passed. The threads communicate through
    the coordination service, so a main thread may meanwhile be inside a collective; a blocked one
    has already dispatched every step that the others need to get as far. Without a signal no
    message is sent.

    Checks are counted, not steps: a run that rolls back to a checkpoint counts steps twice.
    """

    def __init__(self):
        self._previous = {}
        self._signal: signal.Signals | None = None
        self._condition = threading.Condition()
        self._is_held = False
        self._num_passed = 0
        self._last: int | None = None  # number of the check at which to stop

    def __enter__(self) -> "Stopper":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        if service.is_joined():
            service.watch(_KEY, self._agree)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if error is not None:
            # Report before closing files, which may block on the others.
            failure.report_failure(error, failure.choose_status(error))

    def check(self) -> signal.Signals | None:
        """The signal to stop for now, or None; every process must call this once per step."""
        if not service.is_joined():
            return self._signal
        with self._condition:
            self._condition.wait_for(lambda: not self._is_held)
            if self._last == self._num_passed + 1:
                return self._signal
            self._num_passed += 1
        return None

    def _note(self, number: int, frame) -> None:
        del frame
        signal.signal(number, self._previous[number])
        if service.is_joined():
            # Not in the handler itself, which may interrupt the main thread at any point.
            sender = threading.Thread(target=_send, args=(number,), daemon=True)
            sender.start()
        else:
            self._signal = signal.Signals(number)

    def _agree(self, number: str) -> None:
        with self._condition:
            self._is_held = True
            num_passed = self._num_passed
        # No time limit: a process that is not there yet (still compiling, say) will be.
        most = service.combine("passed", str(num_passed), lambda values: str(max(map(int, values))))
        with self._condition:
            self._signal = signal.Signals(int(number))
            self._last = int(most) + 1
            self._is_held = False
            self._condition.notify_all()


def _send(number: int) -> None:
    with contextlib.suppress(RuntimeError):  # the coordinator is gone, so the job ends anyway
        service.put(_KEY, str(int(number)))
