"""Reads VIGOR's lists of labels (one panorama per line) and of tiles (one tile per line)."""

import dataclasses
import math

from ..common import tables

NUM_TILES = 4  # one positive, then three semi-positives
_NUM_TOKENS = 1 + 3 * NUM_TILES


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a label list.

    Attributes:
      panorama: file name of the panorama.
      tiles: file names of the positive tile and the three semi-positives.
      deltas: the camera's position in each tile, see `geometry.find_camera`.
    """

    panorama: str
    tiles: tuple[str, ...]
    deltas: tuple[tuple[float, float], ...]


def read_row(line: str) -> Row:
    """Reads `panorama tile d_a d_b tile d_a d_b tile d_a d_b tile d_a d_b`.

    Raises:
      BadRowError: the line has another number of words, a name is not a bare file name, or a delta
        is not a number.
    """
    words = line.split()
    if len(words) != _NUM_TOKENS:
        raise tables.BadRowError(
            f"has {len(words)} words, {_NUM_TOKENS} are needed: a panorama, then four times a tile "
            "and two numbers"
        )
    panorama, *rest = words
    tiles = tuple(read_name(name) for name in rest[::3])
    deltas = tuple(
        (tables.parse_number("a delta", rows), tables.parse_number("a delta", columns))
        for rows, columns in zip(rest[1::3], rest[2::3], strict=True)
    )
    return Row(read_name(panorama), tiles, deltas)


def read_name(line: str) -> str:
    """Reads a line with a bare file name; a list must not lead out of its folder.

    Raises:
      BadRowError: the line contains a slash or .., or is not exactly one word.
    """
    name = line.strip()
    if any(part in name for part in ("/", "\\", "..", "\0")) or name == ".":
        raise tables.BadRowError(f"{name!r} is not a bare file name")
    if len(name.split()) != 1:
        raise tables.BadRowError(f"{name!r} is not one file name")
    return name


def cut_suffix(name: str) -> str:
    """A file name without its suffix and the comma before it in names of VIGOR's panoramas."""
    stem, dot, suffix = name.rpartition(".")
    is_image = dot and suffix.lower() in ("jpg", "jpeg", "png")
    return (stem if is_image else name).rstrip(",")


def find_position(panorama: str) -> tuple[float, float]:
    """The latitude and longitude, degrees, in a panorama's name `<id>,<lat>,<lon>,.jpg`.

    Both are NaN if the name has no position.
    """
    unknown = (math.nan, math.nan)
    words = cut_suffix(panorama).rsplit(",", 2)
    try:
        latitude, longitude = map(float, words[1:])
    except ValueError:
        return unknown
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else unknown
