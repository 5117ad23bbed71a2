"""Published specifications of the accelerators that a plan can be made for.

Sources, by the letter beside each number:
  G  Google Cloud TPU documentation, docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x},
     "System architecture" (tpu7x has a table of v5p, v6e and tpu7x side by side).
  B  "How to Scale Your Model", jax-ml.github.io/scaling-book, part 2 "TPUs", tables of chips and
     of interconnect bandwidths.
  N  NVIDIA's data sheets of H100 and H200 (SXM): rates are half of those "with sparsity"; "CUDA C++
     Programming Guide", table of technical specifications by compute capability 9.0.
  X  values that the driver reports, from XLA's table of targets (xla/backends/gpu/target_config).
  C  the limit that libtpu 0.0.50 enforces at compile time: the number in its out-of-memory message,
     "exceeds available HBM (15.75G)". It is the memory that a program can use.
"""

import dataclasses
from typing import Any

from retroguide_jax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip; rates are peaks.

    Attributes:
      name: the part of a topology's name before the colon, `v5e` in `v5e:16x16`.
      flops: bfloat16 floating point operations per second and chip. At JAX's default precision
        matrix units compute float32 products in one bfloat16 pass, so this is the peak for both.
      matrix_unit: rows and columns of a matrix unit; products of fewer channels leave a part idle.
      hbm_limit: bytes that a program on one device may use.
      hbm_bandwidth: bytes per second and chip.
      link_bandwidth: bytes per second and direction of one link to a neighbouring chip.
      torus_dims: dimensions of the network of links: 2 or 3; 1 for the GPUs of a host, which are
        joined by a switch: each sends and receives at the rate of its links, to and from any other.
      dcn_bandwidth: bytes per second and chip over the data centre's network: the chip's share of
        its host's network cards.
      devices_per_chip: JAX devices that share a chip's rates.
      options: options of `jax.experimental.topologies.get_topology_desc`; for GPUs, the fields of
        XLA's `GpuDeviceInfoProto` that differ between kinds.
    """

    name: str
    flops: float
    matrix_unit: int
    hbm_limit: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus_dims: int
    dcn_bandwidth: float
    devices_per_chip: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether the chip is an NVIDIA GPU."""
        return self.torus_dims == 1

    def is_ring(self, length: int, shape: tuple[int, ...]) -> bool:
        """Whether a full side of the topology is a ring (B, "TPU Networking").

        On 2D chips only sides of 16 wrap around. On 3D chips all sides do, in slices made of whole
        cubes of 4 x 4 x 4.

        Args:
          length: chips along the side.
          shape: shape of the topology.
        """
        if self.is_gpu:
            return False
        if self.torus_dims == 2:
            return length == 16
        return len(shape) == 3 and all(side % 4 == 0 for side in shape)


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "v4",
            flops=275e12,  # G
            matrix_unit=128,  # B
            hbm_limit=int(30.75 * GIB),  # C; G: 32 GiB
            hbm_bandwidth=1200e9,  # G
            link_bandwidth=45e9,  # B
            torus_dims=3,  # G
            dcn_bandwidth=25e9 / 4,  # B: 2.5e10 per host; G: 4 chips per host
            options=(("chip_config_name", "megacore"),),  # one device per chip, as on Cloud TPU
        ),
        Chip(
            "v5e",
            flops=197e12,  # G
            matrix_unit=128,  # B
            hbm_limit=int(15.75 * GIB),  # C; G: 16 GB
            hbm_bandwidth=819e9,  # G
            link_bandwidth=50e9,  # B; G: 400 GB/s per chip in both directions of 4 links
            torus_dims=2,  # G
            dcn_bandwidth=6.4e12 / 8 / 256,  # G: 6.4 Tbit/s per pod of 256 chips
        ),
        Chip(
            "v5p",
            flops=459e12,  # G
            matrix_unit=128,  # B
            hbm_limit=int(95.73 * GIB),  # C; G: 95 GiB
            hbm_bandwidth=2765e9,  # G
            link_bandwidth=100e9,  # B; G: 1200 GB/s per chip in both directions of 6 links
            torus_dims=3,  # G
            dcn_bandwidth=50e9 / 8,  # G: 50 Gbit/s per chip
        ),
        Chip(
            "v6e",
            flops=918e12,  # G
            matrix_unit=256,  # B
            hbm_limit=int(31.24 * GIB),  # C; G: 32 GB
            hbm_bandwidth=1638e9,  # G
            link_bandwidth=100e9,  # B; G: 800 GB/s per chip in both directions of 4 links
            torus_dims=2,  # G
            dcn_bandwidth=100e9 / 8,  # G: 100 Gbit/s per chip
        ),
        Chip(
            "tpu7x",
            flops=2307e12,  # G
            matrix_unit=256,  # B
            hbm_limit=int(94.74 * GIB),  # C, per device; G: 192 GiB per chip
            hbm_bandwidth=7380e9,  # G
            link_bandwidth=100e9,  # G: 1200 GB/s per chip in both directions of 6 links
            torus_dims=3,  # G
            dcn_bandwidth=100e9 / 8,  # G: 100 Gbit/s per chip
            devices_per_chip=2,  # G: a device is one of the two chiplets
        ),
        *(
            Chip(
                name,
                flops=989.4e12,  # N
                matrix_unit=16,  # of a tensor core; padding hardly matters
                hbm_limit=int(0.75 * memory),  # X; JAX preallocates this share by default
                hbm_bandwidth=bandwidth,  # N
                link_bandwidth=450e9,  # N: 900 GB/s in both directions
                torus_dims=1,
                dcn_bandwidth=400e9 / 8,  # a network card of 400 Gbit/s per GPU, as in N's DGX H100
                options=(
                    ("core_count", 132),  # N
                    ("clock_rate_ghz", 1.98),  # X
                    ("l2_cache_size", 50 * 2**20),  # N
                    ("memory_bandwidth", int(bandwidth)),
                    ("device_memory_size", memory),
                ),
            )
            for name, memory, bandwidth in (
                ("h100", 84_942_979_072, 3.35e12),
                ("h200", 151_397_597_184, 4.8e12),
            )
        ),
    )
}


def find_chip(topology: str) -> Chip:
    """The chip that a topology's name such as `v5e:16x16` begins with.

    Raises:
      UserError: an unknown chip.
    """
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise UserError(
            f"--topology={topology}: no chip {name!r}; name one of {', '.join(CHIPS)} and its "
            "shape, as in v5e:16x16, v5p:8x8x8 or h100:8"
        )
    return CHIPS[name]
