"""Aborts a job that hangs, for example in a collective that a process never joined, or on data."""

import sys
import threading
import time

from retroguide_jax.parallel import failure, service


class Watchdog:
    """Ends the process with status 142 after `seconds` without a `beat`.

    It prints the operation that the process was in and the stack of every thread, and notifies the
    other processes, which print their stacks. It watches from the first beat on.

    Call `beat` only from code that blocks when the devices hang. Steps are dispatched ahead of the
    devices, so beats of the loop alone would continue for a while; but at every `log_every` the
    loop waits for the metrics of the previous interval (`Reporter`), and sends no beat until the
    device has delivered them. So a stuck collective is noticed at the latest `seconds` after the
    steps of two intervals, which by then take only their dispatch time.

    Args:
      seconds: must exceed the time to compile the step and that of any single validation batch;
        0 disables the watchdog.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._last: tuple[float, str] | None = None  # one assignment, so that no lock is needed
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._has_ended.set()

    def beat(self, what: str) -> None:
        """Reports progress; `what` describes the next operation, such as "in step 7"."""
        self._last = (time.monotonic(), what)

    def _watch(self) -> None:
        while not self._has_ended.wait(min(self.seconds / 10, 10.0)):
            if self._last is None:
                continue
            moment, what = self._last
            if time.monotonic() - moment > self.seconds:
                self._end(what)

    def _end(self, what: str) -> None:
        who = service.name_process() if service.is_joined() else "this process"
        text = f"{who} has come no further for {self.seconds:g} s: {what}"
        print(f"{text}; where its threads are:", file=sys.stderr)
        failure.dump_stacks()
        failure.report_failure(f"no progress for {self.seconds:g} s: {what}", failure.STUCK_STATUS)
        failure.leave(failure.STUCK_STATUS)
