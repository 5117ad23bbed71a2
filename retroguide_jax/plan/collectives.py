"""Exchanges between devices, as the compiled program spells them."""

import dataclasses
import re

import numpy as np

from retroguide_jax.plan.hlo import Instruction, Module

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OPCODES = {kind + suffix: kind for kind in KINDS for suffix in ("", "-start")}
_OPCODES["ragged-all-to-all"] = "all-to-all"


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange.

    Attributes:
      kind: one of `KINDS`.
      num_bytes: of the whole array on one device: what an all-gather gives, what the others take.
        Over the network between slices it is what one device sends.
      groups: partitions that exchange with each other, a group a row; of a permute the pairs.
      op_name: where in the Python program it came from.
      over_dcn: whether the compiler itself has put it on the network between slices.
    """

    kind: str
    num_bytes: int
    groups: np.ndarray
    op_name: str
    over_dcn: bool = False


@dataclasses.dataclass(frozen=True)
class Event:
    """What an instruction does to an exchange.

    Attributes:
      role: `sync` (starts and waits), `start`, `done` or `progress` (computes beside it).
      key: names the exchange from its start to its end within one computation.
      collective: None at its end.
    """

    role: str
    key: str
    collective: Collective | None = None


def find_event(module: Module, computation: str, line: Instruction, num: int) -> Event | None:
    """The exchange that an instruction starts, performs or ends, if any.

    Asynchronous exchanges come as pairs (`all-gather-start`, `-done`), as an `async-start` of a
    computation, or on TPUs as a row of fusions that each carry a piece of the exchange beside their
    own work, from `async-collective-start` to `async-collective-done`.

    Args:
      module: the program.
      computation: name of the line's computation.
      line: the instruction.
      num: partitions of the program.
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
    """The exchange within a fusion or an asynchronous computation."""
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
        # The start of a pair gives (what it takes, what it will give).
        arrays = arrays[len(arrays) // 2 :] if line.opcode.endswith("-start") else arrays
    else:
        arrays = [array for name in line.operands if name in lines for array in lines[name].arrays]
    num_bytes = sum(array.num_bytes for array in arrays)
    return Collective(kind, num_bytes, read_groups(line.attributes, num), line.op_name)


def _make_send(lines: dict[str, Instruction], line: Instruction, num: int) -> Collective:
    """TPU slices exchange through their hosts: `send` and `recv` of one part on each device."""
    match = re.search(r'_xla_megascale_transfer_type="(\w+)"', line.attributes)
    kind = (match[1] if match else "all_reduce").lower().replace("_", "-")
    kind = "collective-permute" if kind == "one-to-one" else kind
    num_bytes = sum(array.num_bytes for array in lines[line.operands[0]].arrays)
    return Collective(kind, num_bytes, np.arange(num)[None], line.op_name or kind, over_dcn=True)


def _rendezvous(line: Instruction) -> str:
    match = re.search(r'_xla_host_transfer_rendezvous="([^"]+)"', line.attributes)
    return match[1] if match else line.name


def read_groups(attributes: str, num: int) -> np.ndarray:
    """The groups of a collective in any of the forms that XLA prints.

    `replica_groups={{0,1},{2,3}}`; `[2,2]<=[4]` or `[2,2]<=[2,2]T(1,0)`, rows of a range;
    `mesh['a'=2,'b'=2] {'b'}`, axes of a mesh; `source_target_pairs={{0,1}}`; `{}` means all.

    Args:
      attributes: of the instruction.
      num: partitions of the program.

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
    """Groups along axes of a mesh, `'a'=4,'b'=2` and `'a':(2)2,'b'`, whose part may be an axis."""
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
