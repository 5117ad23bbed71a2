"""Floating point operations and memory traffic of single instructions.

The compiler's own `cost_analysis` counts a loop's body once, and only the costliest branch of a
conditional, however often they run; so this module counts instruction by instruction.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

import numpy as np

from retroguide_jax.plan.collectives import KINDS
from retroguide_jax.plan.hlo import Array, Instruction, Module

Computation = dict[str, Instruction]

# Opcodes without traffic: they name parts of other results or call computations counted elsewhere.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"),
    *("conditional", "call", "partition-id", "replica-id", "opt-barrier", "add-dependency", "iota"),
}
_LARGEST_KERNEL = 7 * 7  # positions
_SLICING = ("slice", "dynamic-slice", "gather")
# Within a fusion: results that are operands, and exchanges, whose time includes their traffic.
_PASSED = ("tuple", "parameter", *KINDS)


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating point operations of matrix products and convolutions, two per multiplication.

    Attributes:
      useful: without the positions of a convolution that fall on padding or between dilated values,
        as in XLA's HloCostAnalysis. Elementwise operations are not counted: they do not run on the
        matrix units and are memory-bound.
      padded: the same with channels padded to whole matrix units.
    """

    useful: float = 0.0
    padded: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.useful + other.useful, self.padded + other.padded)


def count_flops(module: Module, computation: Computation, line: Instruction, unit: int) -> Flops:
    """Operations of one instruction, including those inside a fusion.

    Args:
      module: the program.
      computation: the computation that holds the instruction.
      line: the instruction.
      unit: `Chip.matrix_unit`.
    """
    if line.opcode == "fusion":
        (called,) = line.called()
        inner = module.computations[called]
        return sum((count_flops(module, inner, each, unit) for each in inner.values()), Flops())
    if line.opcode == "dot":
        left, right = (computation[name].arrays[0].dims for name in line.operands[:2])
        contracted = _integers(line.attribute("lhs_contracting_dims") or "")
        batch = _integers(line.attribute("lhs_batch_dims") or "")
        length = math.prod(left[axis] for axis in contracted)
        columns = math.prod(right) // length // math.prod(left[axis] for axis in batch)
        return _pad(2.0 * math.prod(line.arrays[0].dims) * length, length, columns, unit)
    if line.opcode == "convolution":
        image, kernel = (computation[name].arrays[0].dims for name in line.operands[:2])
        return _count_convolution(line, image, kernel, line.arrays[0].dims, unit)
    if line.opcode == "custom-call":
        return _count_library(computation, line, unit)
    return Flops()


def _count_library(computation: Computation, line: Instruction, unit: int) -> Flops:
    """Calls of cuDNN and cuBLAS: maps operands and result to the roles of the forward product."""
    target = line.attribute("custom_call_target") or ""
    if not ("cudnn$conv" in target or "cublas$" in target):
        return Flops()
    first, second = (computation[name].arrays[0].dims for name in line.operands[:2])
    result = line.arrays[0].dims
    if "BackwardInput" in target:
        return _count_convolution(line, result, second, first, unit)
    if "BackwardFilter" in target:
        return _count_convolution(line, first, result, second, unit)
    if "cudnn$conv" in target:
        return _count_convolution(line, first, second, result, unit)
    known = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', line.attributes)
    length = math.prod(first[axis] for axis in _integers(known[1])) if known else 0
    return _pad(2.0 * math.prod(result) * length, length, result[-1], unit)


def _pad(flops: float, contracted: int, columns: int, unit: int) -> Flops:
    """Pads to a matrix unit of `unit` contracted values x `unit` columns; rows stream through."""
    waste = math.prod(-(-size // unit) * unit / size for size in (contracted, columns) if size)
    return Flops(flops, flops * waste)


def count_traffic(module: Module, computation: Computation, line: Instruction) -> float:
    """Bytes that an instruction reads from and writes to the device's main memory.

    Operands and results in a core's own memory do not count; of an operand that is only sliced,
    only the slices count.
    """
    if line.opcode in _FREE or line.opcode.endswith(("-done", "-update")):
        return 0.0
    if line.opcode in ("copy-start", "slice-start"):
        return _count_copy(computation, line)
    if line.opcode in _SLICING:
        return 2.0 * _in_hbm(line.arrays)
    if line.opcode == "dynamic-update-slice":
        return 2.0 * _in_hbm(computation[line.operands[1]].arrays)
    if line.opcode == "fusion":
        (called,) = line.called()
        return _count_fusion(computation, line, module.computations[called])
    operands = (computation[name] for name in line.operands if name in computation)
    return _in_hbm(line.arrays) + sum(_in_hbm(operand.arrays) for operand in operands)


def _in_hbm(arrays: list[Array]) -> float:
    return float(sum(array.num_bytes for array in arrays if array.in_hbm))


def _count_copy(computation: Computation, line: Instruction) -> float:
    """A copy returns (target, source, context), a slice ((source), target, ...)."""
    source = computation[line.operands[0]].arrays[0]
    target = line.arrays[0] if line.opcode == "copy-start" else line.arrays[1]
    return float(target.num_bytes * ((1 if target.in_hbm else 0) + (1 if source.in_hbm else 0)))


def _count_fusion(computation: Computation, line: Instruction, inner: Computation) -> float:
    results = _list_results(inner)
    updated = {each.name for each in results if each.opcode == "dynamic-update-slice"}
    parameters = {each.arguments: each for each in inner.values() if each.opcode == "parameter"}
    total = 0.0
    for number, name in enumerate(line.operands):
        whole = _in_hbm(computation[name].arrays) if name in computation else 0.0
        parameter = parameters.get(str(number))
        if whole and parameter is not None:
            total += _count_read(whole, list(_users(inner, parameter.name)), updated)
    if len(results) != len(line.arrays):
        return total + _in_hbm(line.arrays)
    for result, array in zip(results, line.arrays, strict=True):
        if array.in_hbm and result.opcode not in _PASSED:
            # An in-place update writes only the changed part of the result.
            changed = inner[result.operands[1]].arrays if result.name in updated else [array]
            total += sum(each.num_bytes for each in changed)
    return total


def _count_read(whole: float, users: list[Instruction], updated: set[str]) -> float:
    """Bytes that a fusion reads from an operand of `whole` bytes in main memory."""
    if users and all(user.opcode in _SLICING for user in users):
        return min(whole, float(sum(user.arrays[0].num_bytes for user in users)))
    if all(user.opcode in _PASSED or user.name in updated for user in users):
        return 0.0
    return whole


def _list_results(inner: Computation) -> list[Instruction]:
    """The instructions that produce a fusion's result, or each part of it."""
    root = next(line for line in inner.values() if line.is_root)
    parts = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    return [_skip_bitcasts(inner, line) for line in parts]


def _skip_bitcasts(inner: Computation, line: Instruction) -> Instruction:
    while line.opcode == "bitcast" and line.operands[0] in inner:
        line = inner[line.operands[0]]
    return line


def _users(inner: Computation, name: str) -> Iterator[Instruction]:
    for line in inner.values():
        if name in line.operands:
            yield from _users(inner, line.name) if line.opcode == "bitcast" else (line,)


def _count_convolution(line: Instruction, image, kernel, result, unit: int) -> Flops:
    """Operations of a convolution, from its window and labels and the sides of the three arrays."""
    left, right = (line.attribute("dim_labels") or "").split("->")
    left, middle = left.split("_")
    window = _parse_window(line.attributes)
    positions = 1
    for axis in range(len(left) - 2):
        digit = str(axis)
        positions *= _count_positions(
            image[left.index(digit)],
            result[right.index(digit)],
            *(window[key][axis] if key in window else default for key, default in _WINDOW),
        )
    batch = image[left.index("b")] // int(line.attribute("batch_group_count") or 1)
    inputs, outputs = kernel[middle.index("i")], kernel[middle.index("o")]
    # Kernel gradients contract over all positions, so their window is as large as those positions.
    taps = math.prod(window.get("size", [1]))
    contracted = inputs * taps if taps > _LARGEST_KERNEL else inputs
    return _pad(2.0 * batch * inputs * outputs * positions, contracted, outputs, unit)


_WINDOW = (("size", 1), ("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))


@functools.cache
def _count_positions(
    length: int, out: int, size: int, stride: int, pad: int, lhs_dilate: int, rhs_dilate: int
) -> int:
    """Pairs (result position, kernel position) that fall on an input value, along one side."""
    index = np.arange(out)[:, None] * stride - pad + np.arange(size) * rhs_dilate
    inside = (index >= 0) & (index < (length - 1) * lhs_dilate + 1) & (index % lhs_dilate == 0)
    return int(inside.sum())


def _parse_window(attributes: str) -> dict[str, list[int]]:
    """Parses `window={size=3x3 stride=2x2 pad=1_1x0_0}` into lists over sides; pads: the lower."""
    match = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(field.split("=") for field in match[1].split()) if match else {}
    return {
        key: [int(part.split("_")[0]) for part in value.split("x")] for key, value in fields.items()
    }


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
