"""Times of steps and of waiting for data, measured without draining the devices' queue."""

import collections
import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

# Steps that the loop may be ahead of the devices: one runs, one is ready to follow. More would
# only hold more batches in device memory.
_MOST_AHEAD = 2


class Interval(NamedTuple):
    """Some consecutive steps.

    num_steps: number of timed steps; a process does not time its first one, which compiles.
    seconds: time that these steps took, without pauses.
    waiting: of these, the seconds in which the devices had nothing to do but wait for a batch.
    """

    num_steps: int
    seconds: float
    waiting: float


class StepTimer:
    """Times steps by their end on the devices, for which a thread waits.

    Args:
      thread: the executor of that thread; it must have one thread only.
    """

    def __init__(self, thread: concurrent.futures.Executor):
        self._thread = thread
        self._under_way: collections.deque[concurrent.futures.Future] = collections.deque()
        self._asked = self._arrived = self._resumed = time.monotonic()
        # Only the thread uses these.
        self._ended: float | None = None
        self._num_steps, self._seconds, self._waiting = 0, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Context in which the loop waits for a step's batch."""
        self._asked = time.monotonic()
        yield
        self._arrived = time.monotonic()

    def follow(self, metrics: Any) -> None:
        """Records when a dispatched step ends, that is, when its `metrics` are ready.

        Blocks until at most `_MOST_AHEAD` steps are under way.

        Raises:
          Exception: the error of an earlier step.
        """
        times = self._asked, self._arrived, self._resumed
        self._under_way.append(self._thread.submit(self._watch, metrics, *times))
        while len(self._under_way) > _MOST_AHEAD:
            self._under_way.popleft().result()

    def finish(self) -> None:
        """Waits until every step has ended.

        Raises:
          Exception: the error of a step.
        """
        while self._under_way:
            self._under_way.popleft().result()

    def resume(self) -> None:
        """Excludes the time since the last step (sample images, scores, checkpoints) from the
        step times."""
        self._resumed = time.monotonic()

    def collect(self) -> Interval:
        """The steps since the last call; call this from the thread."""
        interval = Interval(self._num_steps, self._seconds, self._waiting)
        self._num_steps, self._seconds, self._waiting = 0, 0.0, 0.0
        return interval

    def _watch(self, metrics: Any, asked: float, arrived: float, resumed: float) -> None:
        jax.block_until_ready(metrics)
        before, self._ended = self._ended, time.monotonic()
        if before is not None:
            self._num_steps += 1
            self._seconds += self._ended - max(before, resumed)
            self._waiting += max(0.0, arrived - max(asked, before))
