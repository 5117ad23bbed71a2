"""Array shapes in the text of compiled programs, and the bytes they take."""

import dataclasses
import math
import re

# `f32[8,64]{1,0:T(8,128)S(1)}`: type, sides, sides from the fastest, tiles, memory space.
_ARRAY = re.compile(
    r"(?P<dtype>[a-z]\w*)\[(?P<dims>[\d,<=]*)\](?:\{(?P<order>[\d,]*)(?::(?P<layout>[^}]*))?\})?"
)
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_BITS = re.compile(r"(?:bf|f|s|u|c)(\d+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
      dtype: `f32`, `bf16`, `pred`, ...
      dims: sides.
      num_bytes: as it lies in memory: TPUs fill the two fastest sides up to whole tiles.
      in_hbm: whether it lies in the device's main memory, not in a core's own.
    """

    dtype: str
    dims: tuple[int, ...]
    num_bytes: int
    in_hbm: bool


def parse_arrays(shape: str) -> list[Array]:
    """All arrays of a shape, in order, through nested tuples; tokens are none."""
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
    num_bytes = math.ceil(math.prod(sides) * _count_bits(match["dtype"]) / 8)
    return Array(match["dtype"], dims, num_bytes, space is None)


def _count_bits(dtype: str) -> int:
    match = _BITS.match(dtype)
    return int(match[1]) if match else 8  # pred
