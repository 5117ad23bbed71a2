"""Makes one scene of a procedural town from a seed.

The town is drawn in the frame of its streets, where everything is an axis-aligned rectangle and
costs one array slice; the scene's random `heading` then rotates it relative to the compass.
"""

import math

import numpy as np

from .blocks import cut_river, fill_block
from .canvas import Canvas
from .cars import park_cars
from .scene import Scene
from .streets import lay_streets, plant_street_trees
from .styles import STYLES


def make_scene(seed: int, style: str, *, cell_size: float = 0.25) -> Scene:
    """Draws a town around a camera that stands on one of its roads.

    Args:
      seed: any non-negative integer; the same seed and style give the same scene.
      style: key of STYLES.
      cell_size: metres per cell of the raster.

    Returns:
      The scene, 112 m square.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    canvas = Canvas(STYLES[style], rng, cell_size)
    streets = lay_streets(canvas)
    for block in streets.blocks:
        fill_block(canvas, *block)
    if rng.random() < 0.14:
        cut_river(canvas)
    park_cars(canvas, streets)
    plant_street_trees(canvas, streets)
    return canvas.to_scene(heading=rng.uniform(0.0, 2.0 * math.pi))
