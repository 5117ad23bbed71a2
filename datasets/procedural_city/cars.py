"""Draws parked cars."""

import math

import numpy as np

from . import materials as m
from .canvas import HALF_EXTENT

_CAR_COLOURS = np.array(
    [[214, 214, 212], [60, 62, 66], [128, 132, 136], [150, 44, 40], [52, 78, 128], [34, 36, 40],
     [186, 178, 160], [66, 96, 78], [206, 168, 62]]
)  # fmt: skip


def put_car(canvas, x: float, y: float, *, along_x: bool) -> None:
    """Draws one car centred at (x, y) metres, along the raster's x or y axis."""
    rng = canvas.rng
    half_length, half_width = rng.uniform(2.0, 2.4), 0.9
    cabin = 0.55 * half_length
    shift = -0.12 * half_length

    def box(length_from, length_to, half):
        if along_x:
            return (x + length_from, x + length_to, y - half, y + half)
        return (x - half, x + half, y + length_from, y + length_to)

    colour = canvas.vary(_CAR_COLOURS[rng.integers(len(_CAR_COLOURS))], 10)
    body = box(-half_length, half_length, half_width)
    at = canvas.slices(*body)
    if canvas.height[at].size == 0:
        return
    ground = float(canvas.height[at].min())
    canvas.paint(body, m.CAR, colour, ground + 0.95)
    glass = box(shift - cabin - 0.3, shift + cabin + 0.4, half_width - 0.12)
    canvas.paint(glass, m.CAR, (48, 56, 64), ground + 1.2)
    canvas.paint(box(shift - cabin, shift + cabin, half_width - 0.12), m.CAR, colour, ground + 1.5)


def park_cars(canvas, streets) -> None:
    """Parks cars along the kerbs, clear of junctions and of the camera."""
    rng = canvas.rng
    density = rng.uniform(0.0, 0.6)
    for x, half in streets.long:
        for side in (-1.0, 1.0):
            lane_x = x + side * (half - 1.05)
            position = -HALF_EXTENT + rng.uniform(2.0, 8.0)
            while position < HALF_EXTENT - 3.0:
                if rng.random() < density and math.hypot(lane_x, position) > 4.0:
                    _park_if_free(canvas, lane_x, position, along_x=False)
                position += rng.uniform(5.4, 7.5)
    for (left, right), crossings in zip(
        zip(streets.long[:-1], streets.long[1:], strict=True), streets.cross, strict=True
    ):
        for y, half in crossings:
            lane_y = y + rng.choice((-1.0, 1.0)) * (half - 1.05)
            position = left[0] + left[1] + 3.0
            while position < right[0] - right[1] - 3.0:
                if rng.random() < density and math.hypot(position, lane_y) > 4.0:
                    _park_if_free(canvas, position, lane_y, along_x=True)
                position += rng.uniform(5.4, 7.5)


def _park_if_free(canvas, x, y, *, along_x: bool) -> None:
    # A car needs a kerb beside it (not the mouth of a side street) and no zebra crossing under it.
    length, across = 2.6, 1.6
    around = (x - length, x + length, y - across, y + across) if along_x else (
        x - across, x + across, y - length, y + length)  # fmt: skip
    at = canvas.slices(*around)
    material = canvas.material[at]
    if material.size == 0 or np.any(material == m.MARKING):
        return
    edges = (material[0], material[-1]) if along_x else (material[:, 0], material[:, -1])
    if not any(np.all(edge != m.ROAD) for edge in edges):
        return
    put_car(canvas, x, y, along_x=along_x)
