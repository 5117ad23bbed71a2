"""How long an exchange takes on a torus of chips, and between slices of them.

Bandwidth terms are those of ring algorithms ("How to Scale Your Model", part 3, summary of the
collectives): an array of V bytes is gathered over n devices in V (n - 1) / n / W, W the bandwidth
of all links that the group's sides use, both directions where a side is a ring; a reduce-scatter
takes as long, an all-reduce twice. An all-to-all of V bytes on each device is bound by the middle
of a side: with k devices along it, k V / 4 bytes pass there, half of that each way round on a ring.
"""

import dataclasses

import numpy as np

from retroguide_jax.plan.chips import Chip
from retroguide_jax.plan.collectives import Collective

# Traversals of a gather's path, and of its latency.
_FACTORS = {"all-gather": 1.0, "reduce-scatter": 1.0, "all-reduce": 2.0}


@dataclasses.dataclass(frozen=True)
class Network:
    """The links of a topology.

    Attributes:
      chip: its figures.
      shape: chips along the sides of a slice.
      places: int [n, 4], (slice, x, y, z) of each partition.
      share: of the published bandwidths that is reached.
      hop_seconds: latency from a chip to its neighbour.
      dcn_seconds: latency of an exchange between slices.
    """

    chip: Chip
    shape: tuple[int, ...]
    places: np.ndarray
    share: float
    hop_seconds: float
    dcn_seconds: float

    def estimate(self, collective: Collective) -> float:
        """Seconds of one exchange alone on the network."""
        if collective.kind == "collective-permute" and not collective.over_dcn:
            return self._estimate_permute(collective)
        places = self.places[collective.groups[0]]
        num_slices = len(np.unique(places[:, 0]))
        inside = places[places[:, 0] == places[0, 0]]
        if collective.over_dcn:
            # A part of a gather goes to every other slice, a permute's array to one.
            whole = {"all-gather": num_slices, "collective-permute": num_slices / (num_slices - 1)}
            num_bytes = collective.num_bytes * whole.get(collective.kind, 1)
            return self._over_dcn(collective.kind, num_bytes, num_slices)
        seconds = self._inside_slice(collective.kind, collective.num_bytes, inside)
        if num_slices > 1:
            part = collective.num_bytes / len(inside)
            seconds += self._over_dcn(collective.kind, part, num_slices)
        return seconds

    def crosses_slices(self, collective: Collective) -> bool:
        """Whether any group has members in several slices."""
        slices = self.places[collective.groups][..., 0]
        return bool(collective.over_dcn or (slices != slices[:, :1]).any())

    def _inside_slice(self, kind: str, num_bytes: float, places: np.ndarray) -> float:
        num = len(places)
        if num == 1 or num_bytes == 0:
            return 0.0
        bandwidth, hops, middle = 0.0, 0.0, 0.0
        for side, length in enumerate(self.shape):
            spots = np.unique(places[:, 1 + side])
            if len(spots) == 1:
                continue
            # Groups that take every second chip share the links between.
            stride = (spots[-1] - spots[0]) // (len(spots) - 1)
            ring = len(spots) == length and self.chip.is_ring(length, self.shape)
            bandwidth += self._link() * (2 if ring else 1) / stride
            hops += stride * (len(spots) / 2 if ring else len(spots) - 1)
            middle = max(middle, stride * len(spots) / (8 if ring else 4))
        # Devices of one chip: as fast as a link, at least.
        bandwidth, hops = bandwidth or self._link(), hops or 1.0
        if kind == "all-to-all":
            return (middle or 0.5) * num_bytes / self._link() + hops * self.hop_seconds
        gather = num_bytes * (num - 1) / num / bandwidth
        return _FACTORS[kind] * (gather + hops * self.hop_seconds)

    def _over_dcn(self, kind: str, num_bytes: float, num_slices: int) -> float:
        """Each device exchanges its part with its fellows in the other slices."""
        bandwidth = self.chip.dcn_bandwidth / self.chip.devices_per_chip * self.share
        sent = _FACTORS.get(kind, 1.0) * num_bytes * (num_slices - 1) / num_slices
        return sent / bandwidth + self.dcn_seconds

    def _estimate_permute(self, collective: Collective) -> float:
        """All pairs send at once: a link carries as many messages as the longest way has hops."""
        first, second = (self.places[collective.groups[:, column]] for column in (0, 1))
        if (first[:, 0] != second[:, 0]).any():
            rate = self.chip.dcn_bandwidth / self.chip.devices_per_chip * self.share
            return collective.num_bytes / rate + self.dcn_seconds
        hops = np.zeros(len(first))
        for side, length in enumerate(self.shape):
            distance = np.abs(first[:, 1 + side] - second[:, 1 + side])
            ring = self.chip.is_ring(length, self.shape)
            hops += np.minimum(distance, length - distance) if ring else distance
        longest = max(1.0, hops.max(initial=1.0))
        return longest * (collective.num_bytes / self._link() + self.hop_seconds)

    def _link(self) -> float:
        """Bytes a second and direction that one device gets of a link."""
        return self.chip.link_bandwidth / self.chip.devices_per_chip * self.share
