"""Shardings by rule: an ordered list of (path regex -> tactic), as in big_vision."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from retroguide_jax.errors import UserError

Rules = Sequence[tuple[str, str]]


def path_name(path: tuple[Any, ...]) -> str:
    """`params/generator/start_map/kernel` for a tree path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def partition_spec(tactic: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The PartitionSpec that a tactic gives to one leaf.

    `replicate`: a copy on every device. `fsdp`: the largest dimension that the size of the `fsdp`
    axis divides is split over that axis; a leaf without such a dimension is replicated.

    Raises:
      UserError: an unknown tactic.
    """
    if tactic == "replicate":
        return PartitionSpec()
    if tactic == "fsdp":
        size = mesh.shape["fsdp"]
        divisible = [axis for axis, length in enumerate(shape) if length % size == 0]
        if size == 1 or not divisible:
            return PartitionSpec()
        largest = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*("fsdp" if axis == largest else None for axis in range(len(shape))))
    raise UserError(f"config.sharding_rules: unknown tactic {tactic!r}; known: replicate, fsdp")


def state_shardings(abstract_state: Any, rules: Rules, mesh: Mesh) -> Any:
    """A tree of NamedShardings for a tree of ShapeDtypeStructs; the first matching rule wins.

    Raises:
      UserError: a leaf that no rule matches, named by its path.
    """

    def place(path, leaf):
        name = path_name(path)
        for pattern, tactic in rules:
            if re.search(pattern, name):
                return NamedSharding(mesh, partition_spec(tactic, leaf.shape, mesh))
        raise UserError(f"config.sharding_rules: no rule matches {name} {leaf.shape}")

    return jax.tree_util.tree_map_with_path(place, abstract_state)


def sharding_table(abstract_state: Any, shardings: Any) -> list[tuple[str, tuple, str, str]]:
    """Rows (path, shape, dtype, spec), one per leaf, for the log and for golden tests."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract_state)
    specs = jax.tree_util.tree_leaves(shardings)
    return [
        (path_name(path), leaf.shape, np.dtype(leaf.dtype).name, str(tuple(sharding.spec)))
        for (path, leaf), sharding in zip(leaves, specs, strict=True)
    ]
