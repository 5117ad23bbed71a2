"""Work that needs no other process: rows of a batch spread over this process's own devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ROWS = "rows"


class LocalDevices:
    """The devices of this process, each with a full copy of the weights.

    Each device runs the single-device program on its own rows, with no communication between
    devices. So results are bit-identical for any number of devices, as long as each gets the same
    number of rows, and processes with unequal shares of the work never wait for each other.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):  # pyright: ignore[reportInvalidTypeForm]
        devices = list(devices or jax.local_devices())
        types = (jax.sharding.AxisType.Auto,)
        self.mesh = Mesh(np.array(devices), (_ROWS,), axis_types=types)
        self.num_devices = len(devices)

    def compile(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """A jitted fn(variables, *rows) whose row arguments and results are spread over devices.

        Args:
          fn: takes a tree of weights and arrays [rows of one device, ...]; returns a tree of arrays
            [rows of one device, ...]. Rows must not depend on each other.

        Returns:
          The function of (variables, *arrays [B, ...]), B a multiple of `num_devices`.
        """
        rows = PartitionSpec(_ROWS)

        @functools.wraps(fn)
        def apply(variables, *arrays):
            specs = (PartitionSpec(), *(rows for _ in arrays))
            # Without collectives there is no replication to check.
            spread = jax.shard_map(
                fn, mesh=self.mesh, in_specs=specs, out_specs=rows, check_vma=False
            )
            return spread(variables, *arrays)

        return jax.jit(apply)

    def replicate(self, tree: Any) -> Any:
        """Copies every array of a tree to each device; arrays may be sharded over processes.

        If they are, every process must call this.
        """
        return jax.device_put(_gather(tree), NamedSharding(self.mesh, PartitionSpec()))

    def spread(self, *arrays: np.ndarray) -> list[jax.Array]:
        """Shards rows [B, ...] over the devices; repeats the last row to fill up their multiple."""
        fill = -len(arrays[0]) % self.num_devices
        rows = [np.concatenate([array, array[-1:].repeat(fill, 0)]) for array in arrays]
        return jax.device_put(rows, NamedSharding(self.mesh, PartitionSpec(_ROWS)))


def _gather(tree: Any) -> Any:
    leaves = jax.tree.leaves(tree)
    split = [x for x in leaves if isinstance(x, jax.Array) and not x.is_fully_replicated]
    if split:
        whole = NamedSharding(split[0].sharding.mesh, PartitionSpec())  # pyright: ignore[reportAttributeAccessIssue]
        tree = jax.jit(lambda leaves: leaves, out_shardings=whole)(tree)
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree
    )
