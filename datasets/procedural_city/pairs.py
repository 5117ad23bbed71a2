"""Renders one stored pair from its tile number; runs in the worker processes.

Every pair is a separate tile of an infinite plane: tile t of a split lies at column t % 64 and row
t // 64 of that split's band of rows, 160 m apart, while a tile shows 112 m. Therefore no two pairs,
and no two splits, share ground, and a pair depends only on its tile.
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from .render_aerial import render_aerial
from .render_ground import render_ground
from .town import make_scene
from .weather import sample_weather

TILE_PITCH = 160.0
_TILES_PER_ROW = 64
SKY_DEPTH = 65535


@dataclasses.dataclass(frozen=True)
class Split:
    """Tiles of one split. Bands of different splits never overlap: each has 2 ** 32 seeds."""

    name: str
    style: str
    band: int


SPLITS = (
    Split("train", "market_town", 0),
    Split("test", "market_town", 1),
    Split("test_cross", "inner_city", 2),
)


@dataclasses.dataclass(frozen=True)
class View:
    """Image sizes and resolution of one builder config.

    Attributes:
      aerial_size: pixels per side; the image covers 64 m.
      ground_size: rows and columns of the panorama.
      vertical_fov: vertical field of view, degrees.
      cell_size: metres per cell of the scene's raster.
    """

    aerial_size: int
    ground_size: tuple[int, int]
    vertical_fov: float
    cell_size: float


def render_pair(view: View, split: Split, tile: int) -> dict:
    """Renders the example of one tile.

    Returns:
      The features of the builder; images as encoded PNG.
    """
    seed = split.band * 2**32 + tile
    scene = make_scene(seed, split.style, cell_size=view.cell_size)
    # A separate random stream, so that weather and town are independent.
    weather = sample_weather(np.random.default_rng(np.random.SeedSequence([seed, 1])))
    aerial = render_aerial(scene, size=view.aerial_size)
    ground = render_ground(scene, weather, size=view.ground_size, vertical_fov=view.vertical_fov)
    depth = np.minimum(np.round(ground.depth * 100.0), SKY_DEPTH).astype(np.uint16)
    row = split.band * 2**26 + tile // _TILES_PER_ROW
    return {
        "id": f"{split.name}_{tile:06d}",
        "aerial": _encode(aerial),
        "ground": _encode(ground.image),
        "depth": depth[..., None],
        "labels": _encode(ground.labels),
        "sky_mask": _encode(ground.sky.astype(np.uint8) * 255),
        "weather": weather.name,
        "seed": seed,
        "camera": np.array(
            [tile % _TILES_PER_ROW * TILE_PITCH, row * TILE_PITCH, scene.camera_height], np.float64
        ),
    }


def _encode(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
