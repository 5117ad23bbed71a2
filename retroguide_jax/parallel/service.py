"""Words between the processes of a job, through JAX's coordination service; no device takes part.

So a process can be reached while its main thread waits in a collective. This is the only file that
knows the service's client, which JAX keeps private (jax._src.distributed, the same in 0.10 and
0.12); a new release of JAX is tried on tests/parallel/test_service.py first.
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
# A wait is asked for anew after so long: the service forgets none, but connections may be cut.
_SLICE_SECONDS = 600.0
_num_uses: collections.Counter[str] = collections.Counter()
_watchers: list[threading.Thread] = []


def is_joined() -> bool:
    """Whether this process is one of several of a job."""
    # A command that never needed JAX has joined nothing, and must not wait for the import.
    return "jax" in sys.modules and _state().client is not None and _state().num_processes > 1


def process_index() -> int:
    """This process's number from 0; unlike `jax.process_index` it does not open the devices."""
    return _state().process_id


def num_processes() -> int:
    """How many processes the job has."""
    return _state().num_processes


def name_process() -> str:
    """`process 3 (host x)`, for messages."""
    return f"process {process_index()} (host {socket.gethostname()})"


def put(key: str, value: str) -> bool:
    """Tells all processes a value; returns False where the key has one already, which stays."""
    import jax

    try:
        _client().key_value_set(f"{_PREFIX}/{key}", value)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("ALREADY_EXISTS"):
            raise
        return False
    return True


def wait(key: str, seconds: float = math.inf) -> str:
    """The value of a key, as soon as a process has put it.

    Raises:
      TimeoutError: nobody has within `seconds`.
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
    """The value that the first process gives; the others wait for it, and give none.

    Every process must come here, and in the same order where a topic is used more than once.
    """
    name = _name_use(topic)
    if process_index() == 0:
        put(name, value)
        return value
    return wait(name)


def combine(
    topic: str, value: str, fn: Callable[[list[str]], str], seconds: float = math.inf
) -> str:
    """`fn` of the values of all processes, in their order; the first process calls it.

    Every process must come here, and in the same order where a topic is used more than once.

    Raises:
      TimeoutError: not all have come within `seconds`; the message names the missing ones.
    """
    name = _name_use(topic)
    put(f"{name}/{process_index()}", value)
    if process_index() == 0:
        put(f"{name}/result", _combine(name, fn, seconds))
    # The first process may have begun to wait only after this one.
    result = json.loads(wait(f"{name}/result", 2 * seconds))
    if "missing" in result:
        raise TimeoutError(f"process {', '.join(map(str, result['missing']))}")
    return result["value"]


def _combine(name: str, fn: Callable[[list[str]], str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    values, missing = [], []
    for index in range(num_processes()):
        try:
            # A moment at least, to tell who has come from who has not once the time is over.
            values.append(wait(f"{name}/{index}", max(deadline - time.monotonic(), 0.1)))
        except TimeoutError:
            missing.append(index)
    return json.dumps({"missing": missing} if missing else {"value": fn(values)})


def _name_use(topic: str) -> str:
    # A key can be given a value once only.
    _num_uses[topic] += 1
    return f"{topic}/{_num_uses[topic]}"


def watch(key: str, fn: Callable[[str], None]) -> None:
    """Calls `fn` with the value of a key in a thread of its own, as soon as a process puts it."""

    def follow() -> None:
        # It leaves the service, or has lost it, which JAX answers by ending the process.
        with contextlib.suppress(RuntimeError):
            fn(wait(key))

    if not _watchers:
        atexit.register(_leave_service)
    thread = threading.Thread(target=follow, name=f"watch {key}", daemon=True)
    _watchers.append(thread)
    thread.start()


def _leave_service() -> None:
    """Ends the watchers: Python aborts at exit where a thread is still inside the client."""
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
