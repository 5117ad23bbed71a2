"""The device mesh and the placement of batches on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from retroguide_jax.errors import UserError

# From the slowest network to the fastest: between slices, then within one.
AXES = ("slice", "data", "fsdp")
# Every device holds its own rows of the batch, whichever axis its parameters are split over.
BATCH_SPEC = PartitionSpec(AXES)
_BUCKET = 128 * 2**20  # bytes per exchange between slices


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:  # pyright: ignore[reportInvalidTypeForm]
    """Builds the mesh over all devices.

    Args:
      sizes: devices along `slice` (TPU slices, joined by the data centre's network; 1 elsewhere),
        `data` and `fsdp`, 1 where left out; at most one may be -1, meaning the rest.
      devices: default: all of `jax.devices()`. The devices of a described topology work too.

    Raises:
      UserError: the sizes do not multiply to the number of devices, or `slice` is not the number
        of TPU slices.
    """
    devices = list(devices or jax.devices())
    shape = [int(sizes.get(axis, 1)) for axis in AXES]
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
    return Mesh(_arrange(tuple(shape), devices), AXES, axis_types=types)


def count_slices(devices: Sequence[jax.Device] | None = None) -> int:  # pyright: ignore[reportInvalidTypeForm]
    """Number of TPU slices that the devices (default: all) belong to; 1 for other devices."""
    devices = list(devices or jax.devices())
    # On other platforms `slice_index` numbers processes or is absent.
    is_tpu = devices[0].platform == "tpu"
    return len({getattr(device, "slice_index", 0) for device in devices}) if is_tpu else 1


def _arrange(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:  # pyright: ignore[reportInvalidTypeForm]
    """Arranges devices in an array of `shape`, neighbours along the inner axes close together."""
    num_slices = count_slices(devices)
    if devices[0].platform == "tpu" and num_slices != shape[0]:
        raise UserError(
            f"config.mesh.slice={shape[0]}: these devices are of {num_slices} slice(s); "
            f"set --config.mesh.slice={num_slices}"
        )
    # An axis may need part of a torus's side, such as data=64, fsdp=4 on 16 x 16 chips.
    options = {"devices": devices, "allow_split_physical_axes": True}
    if num_slices > 1:
        return mesh_utils.create_hybrid_device_mesh((1, *shape[1:]), (shape[0], 1, 1), **options)
    return mesh_utils.create_device_mesh(shape, **options)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding that splits the rows of a batch over all devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """Compiler options of `jax.jit` for programs on a mesh.

    Every exchange between TPU slices adds latency: at level O1 the gradients travel in a few
    buckets rather than one by one. At its default level the compiler keeps them apart, to start
    each while others are being computed.
    """
    if mesh.shape["slice"] == 1 or mesh.devices.flat[0].platform != "tpu":
        return {}
    return {"xla_tpu_dcn_all_reduce_combiner_threshold_bytes": str(_BUCKET)}


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Under `jit`: gathers the arrays of a tree in full on every device, at this point.

    Without this constraint the compiler may cut a gather and the product that needs it into a ring
    of many small steps, or leave parameters split and gather the activations instead.
    """
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Turns this process's rows [b, ...] into global arrays [B, ...] sharded over the mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
