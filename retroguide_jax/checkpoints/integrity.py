"""Integrity of checkpoints: a checksum of their arrays, and what happens to damaged ones."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from retroguide_jax.errors import UserError
from retroguide_jax.parallel.processes import is_writer, writer_first
from retroguide_jax.progress import print_line


class DamagedCheckpointError(UserError):
    """A damaged checkpoint: files are missing, truncated, or differ from what was saved.

    Attributes:
      folder: the checkpoint's folder.
      reason: the cause in a few words.
    """

    def __init__(self, folder: Path, reason: str):
        self.folder, self.reason = folder, reason
        super().__init__(
            f"{folder}: the checkpoint is damaged: {reason}; use another one, or bring this one "
            "back from a copy"
        )


def report_damage(error: DamagedCheckpointError) -> None:
    """Warns on stderr that a checkpoint is damaged and the one before it is tried."""
    if is_writer():
        text = f"warning: {error.folder} is DAMAGED ({error.reason}); trying the one before it"
        print_line(text)


def make_damage_error(damage: list[DamagedCheckpointError]) -> UserError:
    """The error for a folder in which every checkpoint is damaged."""
    reasons = "; ".join(f"{error.folder.name}: {error.reason}" for error in damage)
    return UserError(
        f"{damage[0].folder.parent}: none of the checkpoints can be read ({reasons}); bring one "
        "back from a copy, or start again in another --workdir"
    )


def set_aside(folder: Path, names: Mapping[int, str]) -> None:
    """Renames the folders of steps to NAME_STEP, which keeps them but not as checkpoints.

    Every process must call this.

    Args:
      folder: the folder of the checkpoints.
      names: step -> NAME.
    """
    with writer_first("set checkpoints aside"):
        for step, name in names.items() if is_writer() else ():
            target = _find_free(folder / f"{name}_{step}")
            (folder / str(step)).rename(target)
            print_line(f"warning: {folder / str(step)} is now {target.name}")


def _find_free(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([path], numbered) if not path.exists())


def compute_checksum(tree: Any) -> int:
    """Sums the bits of all arrays, with a different odd weight per array.

    Integers add up to the same in any order, so that sharding and the number of devices do not
    matter. One changed element always changes the sum; any other change almost surely does.
    Storage does not detect damage: a flipped bit in a compressed array is read back as another
    number. Every process must call this.

    Args:
      tree: tree of arrays with 32-bit elements.

    Returns:
      0 .. 2**32 - 1, on every process.
    """
    return int(_sum_bits(tree))


@jax.jit
def _sum_bits(tree: Any) -> jax.Array:
    sums = [
        jax.lax.bitcast_convert_type(leaf, jnp.uint32).sum(dtype=jnp.uint32)
        for leaf in jax.tree.leaves(tree)
    ]
    # Odd factors are invertible modulo 2**32: no change of one array is lost.
    return (jnp.stack(sums) * (2 * jnp.arange(len(sums), dtype=jnp.uint32) + 1)).sum()
