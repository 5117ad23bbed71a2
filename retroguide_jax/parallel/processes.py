"""Multi-process jobs: joining, barriers around files, gathering of results."""

import contextlib
import os
from collections.abc import Iterator

import jax
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.parallel import failure, service
from retroguide_jax.parallel.marking import mark_lines
from retroguide_jax.text import one_line

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Gathered arrays pass through device memory, so they are gathered in pieces of this total size.
_PIECE_BYTES = 64 * 2**20
# JAX sends heartbeats from its own thread, whatever Python and the devices do, so only a process
# that is dead or unreachable is silent. Shorter than JAX's 100 s, because the others waste device
# time meanwhile; long enough to survive a network interruption.
_HEARTBEAT_SECONDS = 60
_FAILED = "failed: "


def join_processes() -> None:
    """Joins the other processes of a job, if the environment describes any.

    Set by hand: JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without
    the first, JAX detects the job (jax.distributed.initialize): the tasks of one `srun`, the
    workers of a TPU slice on TPU VMs or on GKE, and several slices; JAX_NUM_PROCESSES=1 keeps a
    process alone even there. Returns at once for a single process. Must be called before anything
    touches a device.

    From then on output lines are prefixed `[i/n]`, and a process that reports a failure terminates
    the job. JAX aborts a process by SIGABRT (status 134) if the others have not joined after five
    minutes, if one has sent no heartbeat for a minute, or at once if process 0 is gone.

    Raises:
      UserError: one of the three variables is missing or no number, or the others cannot be joined.
    """
    address, *numbers = (os.environ.get(name, "") for name in _VARIABLES)
    if address and not all(number.isdecimal() for number in numbers):
        raise UserError(
            f"{_VARIABLES[0]}={address}: set {_VARIABLES[1]} and {_VARIABLES[2]} too, to the "
            "number of processes and to this one's number from 0"
        )
    if not address and numbers[0] == "1":
        return
    # JAX's preemption service would take over SIGTERM, and a terminated process would keep running.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if address:
            jax.distributed.initialize(
                address,
                *map(int, numbers),  # pyright: ignore[reportArgumentType]
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        elif _count_detected() > 1:
            jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError, OSError) as error:
        reason = one_line(error)
        if address:
            raise UserError(f"{_VARIABLES[0]}={address}: cannot join: {reason}") from error
        raise UserError(
            f"the other processes of this cluster's job cannot be joined: {reason}; set "
            f"{_VARIABLES[1]}=1 to run alone, or {', '.join(_VARIABLES)} to say which they are"
        ) from error
    if service.is_joined():
        mark_lines(f"[{service.process_index()}/{service.num_processes()}] ")
        failure.follow_failures()


def _count_detected() -> int:
    """Number of processes that JAX would detect for the job; 1 if it would detect no cluster."""
    # Private classes, but only they know every variable of their JAX release and how to ask a TPU
    # VM's metadata server. Kubernetes without TPUs is left out: JAX needs a package and rights.
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster, SlurmCluster

    if SlurmCluster.is_env_present():
        # In a shell on an allocation of many tasks JAX would count, and wait for, all of them.
        return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if GkeTpuCluster.is_env_present():
        # get_process_count would ask a metadata server for slices, which single hosts may not have.
        num_slices = int(os.environ.get("MEGASCALE_NUM_SLICES") or "1")
        return num_slices * len(GkeTpuCluster._get_worker_list_in_slice())
    return GceTpuCluster.get_process_count() if GceTpuCluster.is_env_present() else 1


def is_writer() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def writer_first(name: str) -> Iterator[None]:
    """Context manager: the writing process completes the block before the others enter it.

    Use it for files that one process makes and all read. Every process must enter it. The wait
    occupies no device, however long it takes.

    Args:
      name: name of the block, the same on all processes.

    Raises:
      UserError: in the other processes, if the block failed in the writing process.
    """
    if not service.is_joined():
        yield
        return
    if service.process_index() == 0:
        try:
            yield
        except BaseException as error:
            service.broadcast(name, f"{_FAILED}{failure.describe(error)}")
            raise
        service.broadcast(name, "done")
        return
    outcome = service.broadcast(name)
    if outcome.startswith(_FAILED):
        raise UserError(f"process 0: {outcome.removeprefix(_FAILED)}")
    yield


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Returns, on every process, the rows of all processes concatenated in process order.

    Every process must call this, in the same order, with arrays that differ only in their number
    of rows (and in the length of strings). Rows are sent as bytes, so float64 and text arrive
    unchanged.

    Args:
      rows: [n, ...] of numbers, bool or str.
    """
    if jax.process_count() == 1:
        return rows
    from jax.experimental.multihost_utils import process_allgather

    if rows.dtype.kind == "U":
        longest = int(np.max(process_allgather(np.int32(rows.dtype.itemsize // 4))))
        rows = rows.astype(f"<U{longest}")
    counts = np.asarray(process_allgather(np.int32(len(rows))))
    if not counts.any():
        return rows
    row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), row_bytes)
    padded = np.zeros((int(counts.max()), row_bytes), np.uint8)
    padded[: len(flat)] = flat
    step = max(1, _PIECE_BYTES // max(1, row_bytes * len(counts)))
    pieces = [
        np.asarray(process_allgather(padded[first : first + step]))
        for first in range(0, len(padded), step)
    ]
    gathered = np.concatenate(pieces, axis=1)
    whole = np.concatenate([part[:count] for part, count in zip(gathered, counts, strict=True)])
    return whole.reshape(-1).view(rows.dtype).reshape(-1, *rows.shape[1:])
