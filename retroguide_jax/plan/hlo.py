"""Reads the text of a compiled program: computations, instructions, arrays and their bytes."""

import dataclasses
import functools
import math
import re

# `f32[8,64]{1,0:T(8,128)S(1)}`: type, sides, order of axes (fastest first), tiles, memory space.
_ARRAY = re.compile(
    r"(?P<dtype>[a-z]\w*)\[(?P<dims>[\d,<=]*)\](?:\{(?P<order>[\d,]*)(?::(?P<layout>[^}]*))?\})?"
)
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_BITS = re.compile(r"(?:bf|f|s|u|c)(\d+)")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_OPCODE = re.compile(r" ?([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
      dtype: `f32`, `bf16`, `pred`, ...
      dims: sides.
      num_bytes: bytes in memory, where TPUs pad the two fastest sides to whole tiles.
      padding: the bytes of `num_bytes` that are padding.
      in_hbm: whether it is in the device's main memory, not in a core's own.
    """

    dtype: str
    dims: tuple[int, ...]
    num_bytes: int
    padding: int
    in_hbm: bool


def parse_arrays(shape: str) -> list[Array]:
    """All arrays of a shape, in order, through nested tuples; tokens do not count as arrays."""
    return [_make_array(match) for match in _ARRAY.finditer(shape) if match["dtype"] != "token"]


def _make_array(match: re.Match) -> Array:
    dims = tuple(int(side.lstrip("<=")) for side in match["dims"].split(",") if side)
    layout = match["layout"] or ""
    sides = list(dims)
    tile = _TILE.search(layout)
    if tile:
        order = [int(axis) for axis in match["order"].split(",") if axis]
        lengths = [int(length) for length in tile[1].split(",")]
        for axis, length in zip(order, reversed(lengths), strict=False):
            sides[axis] = -(-sides[axis] // length) * length
    space = _SPACE.search(layout)
    bits = _count_bits(match["dtype"])
    num_bytes, useful = (math.ceil(math.prod(each) * bits / 8) for each in (sides, dims))
    return Array(match["dtype"], dims, num_bytes, num_bytes - useful, space is None)


def _count_bits(dtype: str) -> int:
    match = _BITS.match(dtype)
    return int(match[1]) if match else 8  # pred


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `attributes` is the text after the operands."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    @functools.cached_property
    def arrays(self) -> list[Array]:
        """The arrays of the result."""
        return parse_arrays(self.shape)

    @functools.cached_property
    def op_name(self) -> str:
        """The operation's path in the Python program: `jit(train_step)/.../dot_general`."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match[1] if match else ""

    def attribute(self, name: str) -> str | None:
        """The value of an attribute, such as `{1,0}` or `sum.3`; commas only within braces."""
        match = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.attributes)
        return match[1] if match else None

    def called(self) -> list[str]:
        """Names of the computations it calls, branches in order."""
        names = []
        for key in ("calls", "to_apply", "body", "condition", "branch_computations"):
            names += _NAME.findall(self.attribute(key) or "")
        for key in ("true_computation", "false_computation"):
            names += _NAME.findall(self.attribute(key) or "")
        return names


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: computations by name, each with its instructions by name, in scheduled order."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def root(self, computation: str) -> Instruction:
        """The instruction whose result is the computation's result."""
        return next(line for line in self.computations[computation].values() if line.is_root)


def parse_module(text: str) -> Module:
    """Parses `compiled.as_text()`.

    Raises:
      ValueError: the text holds no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header:
                current = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        else:
            instruction = _parse_line(line)
            if instruction:
                current[instruction.name] = instruction
    if not entry:
        raise ValueError("no ENTRY computation in the program's text")
    return Module(computations, entry)


def _parse_line(line: str) -> Instruction | None:
    left, separator, right = line.strip().partition(" = ")
    if not separator:
        return None
    right = _COMMENT.sub("", right)
    end = _close(right, 0) if right.startswith("(") else right.find(" ")
    match = _OPCODE.match(right, end)
    if match is None:
        return None
    start = match.end() - 1
    stop = _close(right, start)
    arguments = right[start + 1 : stop - 1]
    return Instruction(
        name=left.removeprefix("ROOT ").lstrip("%"),
        opcode=match[1],
        shape=right[:end],
        operands=tuple(_NAME.findall(arguments)),
        arguments=arguments,
        attributes=right[stop:],
        is_root=left.startswith("ROOT "),
    )


def _close(text: str, start: int) -> int:
    """The position after the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if depth == 0:
                return position + 1
    return len(text)
