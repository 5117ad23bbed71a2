"""Scoring beside training: each new checkpoint of a work directory, once."""

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

    A checkpoint is done when its row is in the ledger, W/eval/results.jsonl, and only then: a
    job that is killed does that one again, and none twice. Checkpoints that are damaged, or that
    training deletes before their turn, are told on stderr and left out.

    Args:
      workdir: of a `retroguide train` run; need not hold a checkpoint yet.
      protocol_hash: what rows of this protocol bear as "protocol_hash".
      score_fn: makes the row of a step.
      poll_seconds: between two looks.

    Returns:
      How many checkpoints were scored.

    Raises:
      UserError: another job watches this work directory under the same protocol; in a bucket
        that is not noticed.
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
                time.sleep(poll_seconds)  # a folder that is being deleted takes its time to go
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
    """The newest step of a training that has perhaps not begun yet; waits until there is one.

    Raises:
      UserError: training has ended without any.
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
    """The next step to score; the first process decides for all, which may see another disk."""
    step = 0
    if is_writer():
        # Asked before looking: what is saved between the two is then found at the next look.
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
    """Two jobs on one ledger would each score what the other is scoring."""
    if not is_writer() or is_in_bucket(folder):  # a bucket has no locks
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".watch-{protocol_hash[:16]}"
    # Held by the process, not by the file: one that is killed lets go.
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another job watches here under the same protocol") from None
        yield
