"""Floating point operations and memory traffic of single instructions.

The compiler's own `cost_analysis` counts a loop's body once, and of a conditional the dearest
branch, however often they run; hence the count here, instruction by instruction.
"""

import functools
import math
import re
from collections.abc import Iterator

import numpy as np

from retroguide_jax.plan.collectives import KINDS
from retroguide_jax.plan.hlo import Array, Instruction, Module

Computation = dict[str, Instruction]

# They move nothing: names for parts of what others made, or the work of the computations they call.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"),
    *("conditional", "call", "partition-id", "replica-id", "opt-barrier", "add-dependency", "iota"),
}
_SLICING = ("slice", "dynamic-slice", "gather")
# Within a fusion: results that are operands, and exchanges, whose time has their traffic in it.
_PASSED = ("tuple", "parameter", *KINDS)


def count_flops(module: Module, computation: Computation, line: Instruction) -> float:
    """Operations of the matrix products and convolutions of an instruction, a fusion's included.

    Two a multiplication and addition; positions of a convolution that fall on padding or between
    dilated values are left out, as in XLA's HloCostAnalysis. Elementwise operations are not
    counted: they do not run on the matrix units, and memory bounds them.
    """
    if line.opcode == "fusion":
        (called,) = line.called()
        inner = module.computations[called]
        return sum(count_flops(module, inner, each) for each in inner.values())
    if line.opcode == "dot":
        left = computation[line.operands[0]].arrays[0]
        contracted = _integers(line.attribute("lhs_contracting_dims") or "")
        length = math.prod(left.dims[axis] for axis in contracted)
        return 2.0 * math.prod(line.arrays[0].dims) * length
    if line.opcode == "convolution":
        return _count_convolution(computation, line)
    return 0.0


def count_traffic(module: Module, computation: Computation, line: Instruction) -> float:
    """Bytes that an instruction reads from and writes to the device's main memory.

    Operands and results that the compiler has placed in a core's own memory count nothing; of an
    operand that is only sliced, the slices count.
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
    """A copy gives (where to, where from, context), a slice ((where from), where to, ...)."""
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
            # An update in place leaves the rest of the result alone.
            changed = inner[result.operands[1]].arrays if result.name in updated else [array]
            total += sum(each.num_bytes for each in changed)
    return total


def _count_read(whole: float, users: list[Instruction], updated: set[str]) -> float:
    """Bytes that a fusion reads of an operand of `whole` bytes in main memory."""
    if users and all(user.opcode in _SLICING for user in users):
        return min(whole, float(sum(user.arrays[0].num_bytes for user in users)))
    if all(user.opcode in _PASSED or user.name in updated for user in users):
        return 0.0
    return whole


def _list_results(inner: Computation) -> list[Instruction]:
    """What a fusion's result, or each part of it, is made by."""
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


def _count_convolution(computation: Computation, line: Instruction) -> float:
    image, kernel = (computation[name].arrays[0].dims for name in line.operands[:2])
    left, right = (line.attribute("dim_labels") or "").split("->")
    left, middle = left.split("_")
    window = _parse_window(line.attributes)
    positions = 1
    for axis in range(len(left) - 2):
        digit = str(axis)
        positions *= _count_positions(
            image[left.index(digit)],
            line.arrays[0].dims[right.index(digit)],
            *(window[key][axis] if key in window else default for key, default in _WINDOW),
        )
    batch = image[left.index("b")] // int(line.attribute("batch_group_count") or 1)
    features = kernel[middle.index("i")] * kernel[middle.index("o")]
    return 2.0 * batch * features * positions


_WINDOW = (("size", 1), ("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))


@functools.cache
def _count_positions(
    length: int, out: int, size: int, stride: int, pad: int, lhs_dilate: int, rhs_dilate: int
) -> int:
    """Pairs of a result's position and a kernel's position that meet a value, along one side."""
    index = np.arange(out)[:, None] * stride - pad + np.arange(size) * rhs_dilate
    inside = (index >= 0) & (index < (length - 1) * lhs_dilate + 1) & (index % lhs_dilate == 0)
    return int(inside.sum())


def _parse_window(attributes: str) -> dict[str, list[int]]:
    """`window={size=3x3 stride=2x2 pad=1_1x0_0}` as lists over the sides; of pads the lower."""
    match = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(field.split("=") for field in match[1].split()) if match else {}
    return {
        key: [int(part.split("_")[0]) for part in value.split("x")] for key, value in fields.items()
    }


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
