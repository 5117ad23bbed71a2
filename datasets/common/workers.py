"""Runs a function over many arguments in several processes, with results in order."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

_CHUNK_SIZE = 8
_CHUNKS_AHEAD = 4  # per worker; bounds the memory of results that wait for a slow consumer


class OrderedPool:
    """Worker processes that map in order; a context manager.

    The processes are spawned, not forked, because the caller may already run threads (JAX, Grain).
    A mapped function must therefore be importable, and a script that uses this class, even by
    building a data set, needs `if __name__ == "__main__"`.

    Args:
      num_workers: worker processes; with 1 or fewer, the calling process does the work.
    """

    def __init__(self, num_workers: int):
        self._num_workers = num_workers
        self._executor = None

    def __enter__(self) -> "OrderedPool":
        if self._num_workers > 1:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self._num_workers, multiprocessing.get_context("spawn"), _prepare_worker
            )
        return self

    def __exit__(self, *exception) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable, arguments: Iterable) -> Iterator:
        """Yields function(argument) in the order of the arguments."""
        if self._executor is None:
            yield from map(function, arguments)
            return
        arguments = iter(arguments)
        pending: collections.deque = collections.deque()
        while True:
            while len(pending) < _CHUNKS_AHEAD * self._num_workers:
                chunk = list(itertools.islice(arguments, _CHUNK_SIZE))
                if not chunk:
                    break
                pending.append(self._executor.submit(_call, function, chunk))
            if not pending:
                return
            yield from pending.popleft().result()


def _call(function, chunk):
    return [function(argument) for argument in chunk]


def _prepare_worker() -> None:
    # Ctrl-C reaches the entire process group; only the parent should handle it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exits when the parent ends, because a killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
