"""How long steps take and devices wait for data, measured without emptying the devices' queue."""

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

    num_steps: that were timed: the first one of a process, which compiles, is not.
    seconds: that they took; without pauses.
    waiting: of these, the seconds in which the devices had nothing to do but wait for a batch.
    """

    num_steps: int
    seconds: float
    waiting: float


class StepTimer:
    """Times steps where they end: on the devices, which a thread waits for.

    Args:
      thread: the executor of that thread, and of one thread only.
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
        """Surrounds what waits for a step's batch."""
        self._asked = time.monotonic()
        yield
        self._arrived = time.monotonic()

    def follow(self, metrics: Any) -> None:
        """Takes the time at which a dispatched step will end, that of its `metrics`.

        Waits until few enough steps are under way.

        Raises:
          Exception: what an earlier step ended with.
        """
        times = self._asked, self._arrived, self._resumed
        self._under_way.append(self._thread.submit(self._watch, metrics, *times))
        while len(self._under_way) > _MOST_AHEAD:
            self._under_way.popleft().result()

    def finish(self) -> None:
        """Waits until every step has ended.

        Raises:
          Exception: what a step ended with.
        """
        while self._under_way:
            self._under_way.popleft().result()

    def resume(self) -> None:
        """Leaves what the loop did since the last step (pictures, scores, checkpoints) out of the
        times."""
        self._resumed = time.monotonic()

    def collect(self) -> Interval:
        """The steps since the last call; to be called by the thread."""
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
