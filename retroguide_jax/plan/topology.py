"""Devices that are described, not present, for the compiler to compile for."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.plan.chips import Chip, find_chip
from retroguide_jax.text import one_line

# libtpu would ask a metadata server what machine this is, complain on stderr that none answers, and
# let one process only use it at a time.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A number of equal slices of chips.

    Attributes:
      name: `v5e:16x16`.
      chip: its figures.
      shape: chips along the sides of one slice.
      num_slices: slices, joined by the data centre's network.
      devices: JAX's descriptions of all devices.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    num_slices: int
    devices: tuple[Any, ...]

    @property
    def num_chips(self) -> int:
        """Chips of all slices."""
        return math.prod(self.shape) * self.num_slices


def prepare_environment() -> None:
    """Sets what libtpu and JAX need to compile without devices; to be called before importing jax.

    Raises:
      UserError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for TPUs needs libtpu: pip install 'retroguide_jax[plan]' (no TPU is needed)"
        )
    os.environ.update(_ENVIRONMENT)


def describe_topology(name: str, num_slices: int = 1) -> Topology:
    """Describes the devices of a topology, after `prepare_environment`.

    Args:
      name: chip and shape of one slice, `v5e:16x16` or `v5p:8x8x8`.
      num_slices: slices of it.

    Raises:
      UserError: an unknown chip, or a shape that the compiler does not know for it.
    """
    from jax.experimental import topologies

    chip = find_chip(name)
    shape = name.partition(":")[2]
    if not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(f"--topology={name}: give the shape of a slice, as in {chip.name}:4x4")
    if num_slices < 1:
        raise UserError(f"--slices={num_slices}: must be at least 1")
    options = dict(chip.options) | ({"num_slices": num_slices} if num_slices > 1 else {})
    # Hosts have four chips unless told otherwise, of which older compilers make no exception.
    if set(shape) == {"1", "x"}:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    # Names are the compiler's to know, and what it raises differs between its releases.
    except Exception as error:
        raise UserError(
            f"--topology={name}: the compiler does not know it ({one_line(error)}); "
            "take a shape that exists, as in "
            f"{'v5e:4x4' if chip.torus_dims == 2 else chip.name + ':4x4x4'}"
        ) from error
    sides = tuple(int(side) for side in shape.split("x"))
    return Topology(name, chip, sides, num_slices, tuple(described.devices))


def describe_one_chip(chip: Chip) -> Topology:
    """One chip alone, to compare with many."""
    # The compiler describes no single chip of a 3D network: the first of the smallest slice.
    one = describe_topology(f"{chip.name}:{'1x1' if chip.torus_dims == 2 else '2x2x1'}")
    return dataclasses.replace(one, devices=one.devices[:1], shape=(1,) * chip.torus_dims)


def locate(devices: Any) -> np.ndarray:
    """Rows (slice, x, y, z) of devices in the order of the compiled program's partitions.

    Args:
      devices: an array or list of JAX devices; those that know no place count along x.

    Returns:
      int [n, 4].
    """
    places = []
    for number, device in enumerate(np.asarray(devices, object).flat):
        coords = list(getattr(device, "coords", None) or (number, 0, 0))
        places.append(
            [getattr(device, "slice_index", None) or 0, *coords, *[0] * (3 - len(coords))]
        )
    return np.array(places)
