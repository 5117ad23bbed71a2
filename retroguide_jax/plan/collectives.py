"""Exchanges between devices (collectives and slice transfers): parsing and time estimates.

Bandwidth terms are those of ring algorithms on a torus of chips ("How to Scale Your Model", part 3,
summary of the collectives): an array of V bytes is gathered over n devices in V (n - 1) / n / W,
where W is the bandwidth of all links that the group's sides use, in both directions if a side is a
ring; a reduce-scatter takes as long, an all-reduce twice. An all-to-all of V bytes per device is
limited by the middle of a side: with k devices along it, k V / 4 bytes pass there, half of that
each way round on a ring.
"""

import dataclasses
import re

import numpy as np

from retroguide_jax.plan.chips import Chip
from retroguide_jax.plan.hlo import Instruction, Module

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OPCODES = {kind + suffix: kind for kind in KINDS for suffix in ("", "-start")}
_OPCODES["ragged-all-to-all"] = "all-to-all"
# Time relative to an all-gather's, in bandwidth and in latency.
_FACTORS = {"all-gather": 1.0, "reduce-scatter": 1.0, "all-reduce": 2.0}


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange.

    Attributes:
      kind: one of `KINDS`.
      num_bytes: bytes of the full array on one device: the result of an all-gather, the operands of
        the others. Between slices, the bytes that one device sends.
      groups: partitions that exchange with each other, one group per row; for a permute the pairs.
      op_name: the operation's path in the Python program.
      over_dcn: whether the compiler itself has placed it on the network between slices.
    """

    kind: str
    num_bytes: int
    groups: np.ndarray
    op_name: str
    over_dcn: bool = False


@dataclasses.dataclass(frozen=True)
class Event:
    """The role of an instruction in an exchange.

    Attributes:
      role: `sync` (starts and waits), `start`, `done` or `progress` (computes meanwhile).
      key: identifies the exchange from its start to its end within one computation.
      collective: the exchange; None if the role is `done`.
    """

    role: str
    key: str
    collective: Collective | None = None


def find_event(module: Module, computation: str, line: Instruction, num: int) -> Event | None:
    """The exchange that an instruction starts, performs or ends, if any.

    Asynchronous exchanges come as pairs (`all-gather-start`, `-done`), as an `async-start` of a
    computation, or on TPUs as a series of fusions that each perform a piece of the exchange along
    with their own work, from `async-collective-start` to `async-collective-done`.

    Args:
      module: the program.
      computation: name of the computation that holds the instruction.
      line: the instruction.
      num: number of partitions of the program.
    """
    lines = module.computations[computation]
    if line.opcode in _OPCODES:
        role = "start" if line.opcode.endswith("-start") else "sync"
        return Event(role, line.name, _make(lines, line, _OPCODES[line.opcode], num))
    if line.opcode == "send" and "megascale" in line.attributes:
        return Event("start", _rendezvous(line), _make_send(lines, line, num))
    if line.opcode.endswith("-done") and line.operands:
        started = lines.get(line.operands[0])
        if line.opcode == "recv-done" and started is not None:
            return Event("done", _rendezvous(started))
        return Event("done", line.operands[0])
    if line.opcode in ("fusion", "async-start"):
        return _find_inside(module, line, num)
    return None


def _find_inside(module: Module, line: Instruction, num: int) -> Event | None:
    """Finds the exchange within a fusion or an asynchronous computation."""
    for name in line.called():
        inner = module.computations[name]
        for each in inner.values():
            if each.opcode not in _OPCODES:
                continue
            kind = _OPCODES[each.opcode]
            if kind == "all-reduce" and "dynamic-slice" in {one.opcode for one in inner.values()}:
                kind = "reduce-scatter"
            made = _make(inner, each, kind, num)
            if line.opcode == "async-start":
                return Event("start", line.name, made)
            key = f"{kind} {each.attribute('channel_id')}"
            if line.name.startswith("async-collective-start"):
                return Event("start", key, made)
            if line.name.startswith("async-collective-done"):
                return Event("done", key)
            chained = re.search(r'"flag_end":"\d', each.attributes)
            return Event("progress" if chained else "sync", key, made)
    return None


def _make(lines: dict[str, Instruction], line: Instruction, kind: str, num: int) -> Collective:
    if kind == "all-gather":
        arrays = line.arrays
        # The start of a pair returns (its operands, its future results).
        arrays = arrays[len(arrays) // 2 :] if line.opcode.endswith("-start") else arrays
    else:
        arrays = [array for name in line.operands if name in lines for array in lines[name].arrays]
    num_bytes = sum(array.num_bytes for array in arrays)
    return Collective(kind, num_bytes, read_groups(line.attributes, num), line.op_name)


def _make_send(lines: dict[str, Instruction], line: Instruction, num: int) -> Collective:
    """An exchange between TPU slices through their hosts: one `send` and `recv` per device."""
    match = re.search(r'_xla_megascale_transfer_type="(\w+)"', line.attributes)
    kind = (match[1] if match else "all_reduce").lower().replace("_", "-")
    kind = "collective-permute" if kind == "one-to-one" else kind
    num_bytes = sum(array.num_bytes for array in lines[line.operands[0]].arrays)
    return Collective(kind, num_bytes, np.arange(num)[None], line.op_name or kind, over_dcn=True)


def _rendezvous(line: Instruction) -> str:
    match = re.search(r'_xla_host_transfer_rendezvous="([^"]+)"', line.attributes)
    return match[1] if match else line.name


def read_groups(attributes: str, num: int) -> np.ndarray:
    """Parses the groups of a collective from any of the forms that XLA prints.

    `replica_groups={{0,1},{2,3}}`; `[2,2]<=[4]` or `[2,2]<=[2,2]T(1,0)`, rows of a range;
    `mesh['a'=2,'b'=2] {'b'}`, axes of a mesh; `source_target_pairs={{0,1}}`; `{}` means all.

    Args:
      attributes: attributes of the instruction.
      num: number of partitions of the program.

    Returns:
      int [groups, members], or [pairs, 2].
    """
    match = re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes)
    if match:
        rows = [[int(n) for n in row.split(",")] for row in re.findall(r"\{([\d,]+)\}", match[1])]
        return np.array(rows) if rows else np.arange(num)[None]
    match = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if match:
        shape, source = (tuple(map(int, match[n].split(","))) for n in (1, 2))
        ids = np.arange(np.prod(source)).reshape(source)
        return (ids.transpose(tuple(map(int, match[3].split(",")))) if match[3] else ids).reshape(
            shape
        )
    match = re.search(r"replica_groups=mesh\[([^\]]*)\](?:[^{]*)\{([^}]*)\}", attributes)
    if match:
        return _read_mesh_groups(match[1], match[2])
    return np.arange(num)[None]


def _read_mesh_groups(mesh: str, axes: str) -> np.ndarray:
    """Groups along axes, or parts of axes, of a mesh: `'a'=4,'b'=2` and `'a':(2)2,'b'`."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    parts = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
    shape, names = [], []
    for name, size in sizes.items():
        split = [
            (int(before), int(length)) for each, before, length in parts if each == name and before
        ]
        if not split:
            shape.append(size)
            names.append(name)
            continue
        (before, length) = split[0]
        shape += [before, length, size // (before * length)]
        names += [f"{name} outer", name, f"{name} inner"]
    chosen = [names.index(name) for name, _, _ in parts]
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    ids = np.arange(np.prod(shape)).reshape(shape).transpose(*others, *chosen)
    return ids.reshape(-1, int(np.prod([shape[axis] for axis in chosen])))


@dataclasses.dataclass(frozen=True)
class Network:
    """The links of a topology.

    Attributes:
      chip: specifications of the chip.
      shape: chips along the sides of a slice.
      places: int [n, 4], (slice, x, y, z) of each partition.
      share: fraction of the published bandwidths that is reached.
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
        """Seconds that one exchange takes when it has the network to itself."""
        if collective.kind == "collective-permute" and not collective.over_dcn:
            return self._estimate_permute(collective)
        places = self.places[collective.groups[0]]
        num_slices = len(np.unique(places[:, 0]))
        inside = places[places[:, 0] == places[0, 0]]
        if collective.over_dcn:
            # A gather sends its part to every other slice, a permute its array to one.
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
            # Interleaved groups, such as every second chip, share the links between their chips.
            stride = (spots[-1] - spots[0]) // (len(spots) - 1)
            ring = len(spots) == length and self.chip.is_ring(length, self.shape)
            bandwidth += self._link() * (2 if ring else 1) / stride
            hops += stride * (len(spots) / 2 if ring else len(spots) - 1)
            middle = max(middle, stride * len(spots) / (8 if ring else 4))
        # Devices of one chip are assumed to be joined at least as fast as by a link.
        bandwidth, hops = bandwidth or self._link(), hops or 1.0
        if kind == "all-to-all":
            return (middle or 0.5) * num_bytes / self._link() + hops * self.hop_seconds
        gather = num_bytes * (num - 1) / num / bandwidth
        return _FACTORS[kind] * (gather + hops * self.hop_seconds)

    def _over_dcn(self, kind: str, num_bytes: float, num_slices: int) -> float:
        """Each device exchanges its part with its counterparts in the other slices."""
        bandwidth = self.chip.dcn_bandwidth / self.chip.devices_per_chip * self.share
        sent = _FACTORS.get(kind, 1.0) * num_bytes * (num_slices - 1) / num_slices
        return sent / bandwidth + self.dcn_seconds

    def _estimate_permute(self, collective: Collective) -> float:
        """All pairs send at once: a link carries as many messages as the longest path has hops."""
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
        """Bytes per second and direction that one device gets from a link."""
        return self.chip.link_bandwidth / self.chip.devices_per_chip * self.share
