"""Ends a job that stands still: in a collective that a process never joined, or for its data."""

import sys
import threading
import time

from retroguide_jax.parallel import failure, service


class Watchdog:
    """Ends the process by status 142 where no `beat` has come for so long.

    It says what the process was at, prints the stack of every thread, and tells the other
    processes, which print theirs. It watches from the first beat on.

    Beats must come from what cannot run on while the devices are stuck. Steps are dispatched
    ahead of the devices, so beats of the loop alone would go on for a while; but the loop waits,
    at every `log_every`, for the numbers of the interval before (`Reporter`), and comes to no beat
    until the device has given them. So a stuck collective is noticed at the latest after the
    steps of two intervals, which then only take the time of their dispatch, and `seconds`.

    Args:
      seconds: must be longer than compiling the step, and any single batch of a validation, takes;
        0 watches nothing.
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
        """Reports progress; `what` says what comes next: "in step 7"."""
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
        failure.tell_failure(f"no progress for {self.seconds:g} s: {what}", failure.STUCK_STATUS)
        failure.leave(failure.STUCK_STATUS)
