"""Messages between the processes of a job, through JAX's coordination service, without devices.

So a process can be reached while its main thread waits in a collective. Only this file uses the
service's client, which JAX keeps private (jax._src.distributed, the same in 0.10 and 0.12); try a
new release of JAX on tests/parallel/test_service.py first.
"""

import atexit
import collections
import contextlib
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Callable

_PREFIX = "retroguide"
# Long waits are requested again this often: the service forgets none, but connections may be cut.
_SLICE_SECONDS = 600.0
_num_uses: collections.Counter[str] = collections.Counter()
_watchers: list[threading.Thread] = []


def is_joined() -> bool:
    """Whether this process is one of several processes of a job."""
    # A command that has not imported JAX has joined no job, and must not pay for the import.
    return "jax" in sys.modules and _state().client is not None and _state().num_processes > 1


def process_index() -> int:
    """This process's number from 0; unlike `jax.process_index` it does not open the devices."""
    return _state().process_id


def num_processes() -> int:
    """Number of processes of the job."""
    return _state().num_processes


def name_process() -> str:
    """`process 3 (host x)`, for messages."""
    return f"process {process_index()} (host {socket.gethostname()})"


def put(key: str, value: str) -> bool:
    """Publishes a value to all processes; returns False if the key has one already, which stays."""
    import jax

    try:
        _client().key_value_set(f"{_PREFIX}/{key}", value)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("ALREADY_EXISTS"):
            raise
        return False
    return True


def wait(key: str, seconds: float = math.inf) -> str:
    """Waits until a process has put a value under a key, and returns the value.

    Raises:
      TimeoutError: no process has done so within `seconds`.
    """
    import jax

    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        milliseconds = max(1, int(1000 * min(left, _SLICE_SECONDS)))
        try:
            return _client().blocking_key_value_get(f"{_PREFIX}/{key}", milliseconds)
        except jax.errors.JaxRuntimeError as error:
            if not str(error).startswith("DEADLINE_EXCEEDED"):
                raise
    raise TimeoutError(key)


def broadcast(topic: str, value: str = "") -> str:
    """Returns the value that process 0 passes; the others wait for it, and their value is ignored.

    Every process must call this, in the same order if a topic is used more than once.
    """
    name = _name_use(topic)
    if process_index() == 0:
        put(name, value)
        return value
    return wait(name)


def combine(
    topic: str, value: str, fn: Callable[[list[str]], str], seconds: float = math.inf
) -> str:
    """Returns `fn` of the values of all processes, in process order; process 0 calls `fn`.

    Every process must call this, in the same order if a topic is used more than once.

    Raises:
      TimeoutError: some processes have not called within `seconds`; the message names them.
    """
    name = _name_use(topic)
    put(f"{name}/{process_index()}", value)
    if process_index() == 0:
        put(f"{name}/result", _combine(name, fn, seconds))
    # Twice the time, because process 0 may have begun to wait only after this one.
    result = json.loads(wait(f"{name}/result", 2 * seconds))
    if "missing" in result:
        raise TimeoutError(f"process {', '.join(map(str, result['missing']))}")
    return result["value"]


def _combine(name: str, fn: Callable[[list[str]], str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    values, missing = [], []
    for index in range(num_processes()):
        try:
            # At least 0.1 s, so that values already put are still read after the deadline.
            values.append(wait(f"{name}/{index}", max(deadline - time.monotonic(), 0.1)))
        except TimeoutError:
            missing.append(index)
    return json.dumps({"missing": missing} if missing else {"value": fn(values)})


def _name_use(topic: str) -> str:
    # A key can be set only once, so every use of a topic needs its own.
    _num_uses[topic] += 1
    return f"{topic}/{_num_uses[topic]}"


def watch(key: str, fn: Callable[[str], None]) -> None:
    """Calls `fn` with the value of a key, in a separate thread, as soon as a process puts it."""

    def follow() -> None:
        # The process is leaving the service, or has lost it; then JAX ends the process.
        with contextlib.suppress(RuntimeError):
            fn(wait(key))

    if not _watchers:
        atexit.register(_leave_service)
    thread = threading.Thread(target=follow, name=f"watch {key}", daemon=True)
    _watchers.append(thread)
    thread.start()


def _leave_service() -> None:
    """Ends the watchers: Python aborts at exit if a thread is still inside the client."""
    import jax

    jax.distributed.shutdown()
    for thread in _watchers:
        thread.join(timeout=10)


def _state():
    from jax._src.distributed import global_state

    return global_state


def _client():
    client = _state().client
    if client is None:
        raise RuntimeError("this process has left the job")
    return client
