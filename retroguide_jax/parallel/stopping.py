"""SIGINT and SIGTERM: all processes of a job end after the same step, whichever got the signal."""

import contextlib
import signal
import threading

from retroguide_jax.parallel import failure, service

_KEY = "stop"


class Stopper:
    """While it is entered, the first signal asks for an end, and a second one ends at once.

    Every process comes to `check` after every step. The one that got a signal tells the others.
    Then, in each process, a thread holds the next check back and tells how many checks have been
    passed: the end is at the first check that no process has passed. The threads talk through the
    coordination service, so a main thread may meanwhile be inside a collective; and one that is
    held back has dispatched all that the others need to come as far. Nothing is sent in normal
    running.

    Checks are counted, not steps: a run that goes back to a checkpoint counts steps twice.
    """

    def __init__(self):
        self._previous = {}
        self._signal: signal.Signals | None = None
        self._condition = threading.Condition()
        self._is_held = False
        self._num_passed = 0
        self._last: int | None = None  # the number of the check at which to end

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
            # Before files are closed, which may wait for the others.
            failure.tell_failure(error, failure.choose_status(error))

    def check(self) -> signal.Signals | None:
        """The signal to end by now, or None; to be called once a step by every process."""
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
            # Not in the handler, which stands between any two lines of the main thread.
            tell = threading.Thread(target=_tell, args=(number,), daemon=True)
            tell.start()
        else:
            self._signal = signal.Signals(number)

    def _agree(self, number: str) -> None:
        with self._condition:
            self._is_held = True
            num_passed = self._num_passed
        # No time limit: a process that has not come so far yet (it compiles, say) will.
        most = service.combine("passed", str(num_passed), lambda values: str(max(map(int, values))))
        with self._condition:
            self._signal = signal.Signals(int(number))
            self._last = int(most) + 1
            self._is_held = False
            self._condition.notify_all()


def _tell(number: int) -> None:
    with contextlib.suppress(RuntimeError):  # the coordinator is gone, and soon so is the job
        service.put(_KEY, str(int(number)))
