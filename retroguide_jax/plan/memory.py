"""What fills a device's memory, by kind."""

import math
from typing import Any

import jax
import numpy as np

from retroguide_jax.plan.compiling import AbstractStep, Compiled

_KINDS = {"params": "parameters", "opt": "optimizer", "ema": "averages"}


def measure_state(step: AbstractStep) -> dict[str, int]:
    """Bytes of one device's part of what a step takes, from shapes and shardings alone.

    Returns:
      {parameters, optimizer, averages, other_state, batch}.
    """
    sizes = dict.fromkeys((*_KINDS.values(), "other_state"), 0)
    for name, tree in step.state.items():
        sizes[_KINDS.get(name, "other_state")] += _count_bytes(tree)
    return sizes | {"batch": _count_bytes(step.batch)}


def measure_memory(step: AbstractStep, compiled: Compiled) -> dict[str, int]:
    """Bytes of one device by kind.

    `measure_state`, and of a program that fits also `padding` (arguments fill whole tiles in
    memory), `outputs` (that do not take an argument's place), `temporaries` (activations and all
    else that lives within a step), `program`, and `total`.
    """
    sizes = measure_state(step)
    if not compiled.fits:
        return sizes
    told = compiled.bytes
    sizes["padding"] = told["arguments"] - sum(sizes.values())
    sizes["outputs"] = told["outputs"] - told["aliased"]
    sizes |= {"temporaries": told["temporaries"], "program": told["program"]}
    return sizes | {"total": sum(sizes.values())}


def _count_bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )
