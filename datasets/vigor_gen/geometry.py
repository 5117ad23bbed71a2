"""The position of a panorama's camera in a VIGOR tile, and the crop of the tile around it."""

from ..common.listing import Box

TILE_PIXELS = 640  # side of a published tile; the unit of the labels
# Ground resolution of the tiles at zoom 20 per city, which depends on latitude: measured for the
# corrected labels (SliceMatch, CVPR 2023). It also applies to the original labels: those were made
# with 0.114 m in every city, which misplaces their cameras (by up to 13 % of the offset in
# Seattle), but the tiles are the same images. Scaling the original offsets here would create a
# third, unpublished set of labels; for accurate camera positions, use the corrected labels.
METRES_PER_PIXEL = {
    "NewYork": 0.113248,
    "Seattle": 0.100817,
    "SanFrancisco": 0.118141,
    "Chicago": 0.111262,
}


def find_camera(delta: tuple[float, float]) -> tuple[float, float]:
    """The camera's position in a tile, from the two numbers after the tile's name in a list.

    The first counts rows downwards, the second columns leftwards, from the tile's centre (VIGOR's
    own evaluation code).

    Args:
      delta: (d_a, d_b), pixels of a 640-pixel tile.

    Returns:
      (x, y) in pixels of a 640-pixel tile, from its left and upper edges; in semi-positive tiles
      the camera may lie outside 0 .. 640.
    """
    rows_down, columns_left = delta
    return TILE_PIXELS / 2 - columns_left, TILE_PIXELS / 2 + rows_down


def crop_around(delta: tuple[float, float], city: str, metres: float) -> Box:
    """The square part of a tile centred on the camera.

    Args:
      delta: see `find_camera`.
      city: a key of `METRES_PER_PIXEL`.
      metres: the square's side on the ground.

    Returns:
      The box, as fractions of the tile's side for any size in pixels; it may leave the tile.
    """
    x, y = (place / TILE_PIXELS for place in find_camera(delta))
    half = 0.5 * metres / measure_tile(city)
    return Box(x - half, y - half, x + half, y + half)


def measure_tile(city: str) -> float:
    """Side length of a tile on the ground, metres."""
    return TILE_PIXELS * METRES_PER_PIXEL[city]
