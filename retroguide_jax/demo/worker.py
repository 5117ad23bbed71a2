"""The one thread that owns the model, and the few requests that may wait for it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class BusyError(Exception):
    """Every place is taken."""


class Worker:
    """Runs one job after the other. Its methods belong to the event loop's thread."""

    def __init__(self, num_places: int):
        """Starts nothing yet.

        Args:
          num_places: requests that may be uploading, waiting or drawn at a time.
        """
        self._num_free = num_places
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Holds a place, taken before an upload is read: so memory is bounded.

        Raises:
          BusyError: there is none.
        """
        if not self._num_free:
            raise BusyError
        self._num_free -= 1
        try:
            yield
        finally:
            self._num_free += 1

    def submit(self, fn: Callable[..., Any], *args: Any) -> asyncio.Future:
        """Queues fn(*args); one that is cancelled before its turn is never run."""
        return asyncio.get_running_loop().run_in_executor(self._thread, fn, *args)

    def close(self) -> None:
        """Waits for the job at hand and drops the others."""
        self._thread.shutdown(cancel_futures=True)
