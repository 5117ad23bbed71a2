"""The device mesh and the placement of batches on it."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from retroguide_jax.errors import UserError

AXES = ("data", "fsdp")
# Every device holds its own rows of the batch, whichever axis its parameters are split over.
BATCH_SPEC = PartitionSpec(AXES)


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over all devices.

    Args:
      sizes: devices along `data` and `fsdp`; at most one may be -1, meaning the rest.
      devices: default: all of `jax.devices()`.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = list(devices or jax.devices())
    shape = [int(sizes[axis]) for axis in AXES]
    asked = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"config.mesh: {asked}: sizes are positive, at most one may be -1")
    known = int(np.prod([size for size in shape if size != -1]))
    if -1 in shape and len(devices) % known == 0:
        shape[shape.index(-1)] = len(devices) // known
    if -1 in shape or int(np.prod(shape)) != len(devices):
        raise UserError(
            f"config.mesh: {asked} does not fit {len(devices)} device(s); "
            "the product must equal the number of devices (use -1 for the rest)"
        )
    types = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(shape), AXES, axis_types=types, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of the batch over all devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Turns this process's rows [b, ...] into global arrays [B, ...] sharded over the mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
