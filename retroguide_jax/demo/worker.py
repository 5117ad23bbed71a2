"""The single thread that runs the model, and a bounded number of requests that wait for it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class BusyError(Exception):
    """The maximum number of requests is already being served."""


class Worker:
    """Runs one job at a time. Its methods must be called from the event loop's thread."""

    def __init__(self, num_places: int):
        """Creates the worker; its thread starts with the first job.

        Args:
          num_places: requests that may be uploading, waiting or drawn at a time.
        """
        self._num_free = num_places
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Context manager that holds a place; enter it before reading an upload, to bound memory.

        Raises:
          BusyError: no place is free.
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
        """Waits for the running job and cancels the queued ones."""
        self._thread.shutdown(cancel_futures=True)
