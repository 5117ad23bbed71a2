"""Descriptions of devices that are not present, as targets for the compiler."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.plan.chips import Chip, find_chip
from retroguide_jax.text import one_line

# Properties that all GPUs of compute capability 9.0 share ("CUDA C++ Programming Guide", technical
# specifications), as XLA's `GpuTargetConfigProto`. There is no device to autotune kernels on.
_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  cuda_compute_capability {{ major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }}
  {fields}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""
# Without these, libtpu asks a metadata server about the machine, complains on stderr that none
# answers, and lets only one process use it at a time.
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
      name: chip and shape of one slice, such as `v5e:16x16`.
      chip: specifications of the chip.
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
        """Number of chips in all slices."""
        return math.prod(self.shape) * self.num_slices


def prepare_environment(name: str) -> None:
    """Sets the environment for compiling without devices; must be called before importing jax.

    Args:
      name: name of the topology.

    Raises:
      UserError: an unknown chip, or its compiler is not installed.
    """
    os.environ.update(_ENVIRONMENT)
    if find_chip(name).is_gpu:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
        if not _is_installed("jax_plugins.xla_cuda13"):
            raise UserError(
                "compiling for GPUs needs JAX's plugin for them: pip install "
                f"jax-cuda13-plugin=={importlib.metadata.version('jax')} (no GPU is needed)"
            )
    elif not _is_installed("libtpu"):
        raise UserError(
            "compiling for TPUs needs libtpu: pip install 'retroguide_jax[plan]' (no TPU is needed)"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def describe_topology(name: str, num_slices: int = 1) -> Topology:
    """Describes the devices of a topology; call `prepare_environment` first.

    Args:
      name: chip and shape of one slice, `v5e:16x16` or `v5p:8x8x8`.
      num_slices: number of such slices.

    Raises:
      UserError: an unknown chip, or a shape that the compiler does not know for it.
    """
    from jax.experimental import topologies

    chip = find_chip(name)
    shape = name.partition(":")[2]
    if not re.fullmatch(r"\d+" if chip.is_gpu else r"\d+(x\d+){1,2}", shape):
        raise UserError(f"--topology={name}: give the shape of a slice, as in {_example(chip)}")
    if num_slices < 1:
        raise UserError(f"--slices={num_slices}: must be at least 1")
    if chip.is_gpu:
        if num_slices > 1 or int(shape) > 8:
            raise UserError(f"--topology={name}: GPUs are planned for on one host, of 8 at most")
        options = {"platform": "cuda", "topology": f"1x1x{shape}"}
        fields = " ".join(f"{field}: {value}" for field, value in chip.options)
        options["target_config"] = _GPU.format(fields=fields, name=chip.name)
    else:
        options = {"platform": "tpu"} | dict(chip.options)
        options |= {"num_slices": num_slices} if num_slices > 1 else {}
        # Hosts have four chips by default, and older compilers apply that even to a single chip.
        options |= {"chips_per_host_bounds": (1, 1, 1)} if set(shape) == {"1", "x"} else {}
    try:
        described = topologies.get_topology_desc(topology_name=name, **options)
    # Only the compiler knows the valid names, and the errors it raises differ between releases.
    except Exception as error:
        raise UserError(
            f"--topology={name}: the compiler does not know it ({one_line(error)}); "
            f"take a shape that exists, as in {_example(chip)}"
        ) from error
    sides = tuple(int(side) for side in shape.split("x"))
    return Topology(name, chip, sides, num_slices, tuple(described.devices))


def _example(chip: Chip) -> str:
    return f"{chip.name}:{ {1: '8', 2: '4x4', 3: '4x4x4'}[chip.torus_dims] }"


def describe_one_chip(chip: Chip) -> Topology:
    """A topology of a single chip, as the baseline of scaling efficiency."""
    # The compiler cannot describe a single chip of a 3D network: take one of the smallest slice.
    one = describe_topology(f"{chip.name}:{ {1: '1', 2: '1x1', 3: '2x2x1'}[chip.torus_dims] }")
    return dataclasses.replace(one, devices=one.devices[:1], shape=(1,) * chip.torus_dims)


def locate(devices: Any) -> np.ndarray:
    """Rows (slice, x, y, z) of devices, in the order of the compiled program's partitions.

    Args:
      devices: an array or list of JAX devices; those without coordinates are numbered along x.

    Returns:
      int [n, 4].
    """
    places = []
    for number, device in enumerate(np.asarray(devices, object).flat):
        known = getattr(device, "coords", None) if device.platform == "tpu" else None
        coords = list(known or (number, 0, 0))
        places.append(
            [getattr(device, "slice_index", None) or 0, *coords, *[0] * (3 - len(coords))]
        )
    return np.array(places)
