"""Scores each new checkpoint of a work directory once, during training."""

import contextlib
import fcntl
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from retroguide_jax.checkpoints.integrity import DamagedCheckpointError
from retroguide_jax.checkpoints.saving import is_finished, list_steps
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results
from retroguide_jax.files import is_in_bucket
from retroguide_jax.parallel.processes import is_writer

_NOTHING, _THE_END = -1, -2


def watch(
    workdir: Path,
    protocol_hash: str,
    score_fn: Callable[[int], dict[str, Any]],
    poll_seconds: float,
) -> int:
    """Scores checkpoints as they appear, oldest first, until training has ended.

    A checkpoint counts as done only when its row is in the ledger, W/eval/results.jsonl: after a
    kill the unfinished checkpoint is scored again, and no finished one. Checkpoints that are
    damaged, or that training deletes before they are scored, are reported on stderr and skipped.

    Args:
      workdir: of a `retroguide train` run; need not hold a checkpoint yet.
      protocol_hash: the "protocol_hash" of rows of this protocol.
      score_fn: makes the row of a step.
      poll_seconds: between two polls.

    Returns:
      The number of checkpoints scored.

    Raises:
      UserError: another job watches this work directory under the same protocol; in a bucket
        this is not detected.
    """
    num_scored, damaged = 0, set()
    with _locked(workdir / "eval", protocol_hash):
        while (step := _choose(workdir, protocol_hash, damaged)) != _THE_END:
            if step == _NOTHING:
                time.sleep(poll_seconds)
                continue
            try:
                row = score_fn(step)
            except UserError as error:
                time.sleep(poll_seconds)  # deleting a folder takes some time
                if step in list_steps(workdir):
                    if not isinstance(error, DamagedCheckpointError):
                        raise
                    damaged.add(step)
                    print(f"warning: step {step} is not scored: {error}", file=sys.stderr)
                    continue
                print(f"step {step}: deleted by training before it was scored", file=sys.stderr)
                continue
            if is_writer():
                results.append_row(workdir, row)
            num_scored += 1
    return num_scored


def wait_for_checkpoint(workdir: Path, poll_seconds: float) -> int:
    """Waits for the first checkpoint of a training, which may not have begun.

    Returns:
      The newest step.

    Raises:
      UserError: training has ended without a checkpoint.
    """
    while True:
        has_ended = is_finished(workdir)
        steps = list_steps(workdir)
        if steps:
            return steps[-1]
        if has_ended:
            raise UserError(f"{workdir}: training has ended and left no checkpoint")
        time.sleep(poll_seconds)


def _choose(workdir: Path, protocol_hash: str, damaged: Collection[int]) -> int:
    """The next step to score; the first process decides, as others may see another disk."""
    step = 0
    if is_writer():
        # Ask before listing: a checkpoint saved in between is then found by the next poll.
        has_ended = is_finished(workdir)
        rows = results.read_rows(workdir)
        done = {row.get("step") for row in rows if row.get("protocol_hash") == protocol_hash}
        waiting = [step for step in list_steps(workdir) if step not in done.union(damaged)]
        step = min(waiting, default=_THE_END if has_ended else _NOTHING)
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import broadcast_one_to_all

        step = int(broadcast_one_to_all(np.int32(step)))
    return step


@contextlib.contextmanager
def _locked(folder: Path, protocol_hash: str) -> Iterator[None]:
    """Locks the ledger: two jobs on it would score the same checkpoints."""
    if not is_writer() or is_in_bucket(folder):  # a bucket has no locks
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".watch-{protocol_hash[:16]}"
    # The lock belongs to the process: killing the process releases it.
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another job watches here under the same protocol") from None
        yield
