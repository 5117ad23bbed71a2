"""Where a panorama's camera stands in VIGOR's tile, and how much of the tile to cut out there."""

from __future__ import annotations

from ..common.listing import Box

TILE_PIXELS = 640  # side of a tile as published; labels count in these pixels
# Ground resolution of the tiles at zoom 20, by each city's latitude: measured for the corrected
# labels (SliceMatch, CVPR 2023). It holds under the original labels as well: those were made with
# 0.114 m in every city, which misplaces their cameras (by up to 13 % of the offset in Seattle), but
# the tiles are the same images. To scale original offsets here would give a third set of labels
# that nobody publishes; whoever wants cameras in their true places takes the corrected ones.
METRES_PER_PIXEL = {
    "NewYork": 0.113248,
    "Seattle": 0.100817,
    "SanFrancisco": 0.118141,
    "Chicago": 0.111262,
}


def find_camera(delta: tuple[float, float]) -> tuple[float, float]:
    """The camera's place in a tile, from the two numbers that follow the tile's name in a list.

    The first counts rows downwards, the second columns leftwards, from the tile's centre (VIGOR's
    own evaluation code).

    Args:
      delta: (d_a, d_b), pixels of a 640-pixel tile.

    Returns:
      (x, y) in pixels of a 640-pixel tile, from its left and upper edges; semi-positive tiles may
      have it outside of 0 .. 640.
    """
    rows_down, columns_left = delta
    return TILE_PIXELS / 2 - columns_left, TILE_PIXELS / 2 + rows_down


def crop_around(delta: tuple[float, float], city: str, metres: float) -> Box:
    """The square of a tile with the camera in its middle.

    Args:
      delta: see `find_camera`.
      city: a key of `METRES_PER_PIXEL`.
      metres: the square's side on the ground.

    Returns:
      The box, in shares of the tile, whatever its size in pixels; it may leave the tile.
    """
    x, y = (place / TILE_PIXELS for place in find_camera(delta))
    half = 0.5 * metres / measure_tile(city)
    return Box(x - half, y - half, x + half, y + half)


def measure_tile(city: str) -> float:
    """Metres of ground that a tile's side covers."""
    return TILE_PIXELS * METRES_PER_PIXEL[city]
