"""Draws the blocks between the streets (built, park, dock or car park) and a river."""

import numpy as np

from . import materials as m
from .canvas import HALF_EXTENT, KERB_HEIGHT, PAINT, Canvas, pack
from .cars import put_car
from .houses import fill_gardens, fill_rows
from .scene import NO_BUILDING

WATER_LEVEL = -0.8


def fill_block(canvas: Canvas, left, right, bottom, top) -> None:
    """Chooses the land use of one block at random and paints it."""
    rng = canvas.rng
    rectangle = (left, right, bottom, top)
    short = min(right - left, top - bottom)
    if short < 7.0:
        canvas.paint(rectangle, m.GRASS, canvas.grass, KERB_HEIGHT)
        return
    weights = np.array(canvas.style.land_use)
    use = rng.choice(4, p=weights / weights.sum())
    if use == 1:
        _fill_park(canvas, rectangle)
    elif use == 2:
        _fill_car_park(canvas, rectangle)
    elif use == 3:
        _fill_basin(canvas, rectangle)
    elif rng.random() < canvas.style.detached:
        fill_gardens(canvas, rectangle)
    else:
        fill_rows(canvas, rectangle)


def _fill_park(canvas, rectangle) -> None:
    rng = canvas.rng
    left, right, bottom, top = rectangle
    width, depth = right - left, top - bottom
    canvas.paint(rectangle, m.GRASS, canvas.grass, KERB_HEIGHT)
    path = canvas.vary(np.array([186, 168, 132]), 12)
    x, y = left + width * rng.uniform(0.3, 0.7), bottom + depth * rng.uniform(0.3, 0.7)
    canvas.paint((x - 1.1, x + 1.1, bottom, top), m.PAVED, path, KERB_HEIGHT)
    canvas.paint((left, right, y - 1.1, y + 1.1), m.PAVED, path, KERB_HEIGHT)
    if min(width, depth) > 16.0 and rng.random() < 0.5:
        _dig_pond(canvas, rectangle)
    for _ in range(min(40, int(width * depth / rng.uniform(28.0, 90.0)))):
        radius = rng.uniform(1.6, 3.6)
        canvas.put_tree(
            rng.uniform(left + 1.0, right - 1.0),
            rng.uniform(bottom + 1.0, top - 1.0),
            radius,
            radius * rng.uniform(1.9, 2.8),
        )


def _dig_pond(canvas, rectangle) -> None:
    rng = canvas.rng
    left, right, bottom, top = rectangle
    a, b = (
        0.5 * (right - left) * rng.uniform(0.4, 0.8),
        0.5 * (top - bottom) * rng.uniform(0.4, 0.8),
    )
    at = canvas.slices(left, right, bottom, top)
    rows, columns = canvas.height[at].shape
    if rows == 0 or columns == 0:
        return
    y = HALF_EXTENT - (np.arange(rows) + at[0].start + 0.5) * canvas.cell - 0.5 * (bottom + top)
    x = (np.arange(columns) + at[1].start + 0.5) * canvas.cell - HALF_EXTENT - 0.5 * (left + right)
    wet = (x[None, :] / a) ** 2 + (y[:, None] / b) ** 2 < 1.0
    _fill_water(canvas, at, wet)


def _fill_water(canvas, at, wet) -> None:
    canvas.height[at][wet] = WATER_LEVEL
    canvas.material[at][wet] = m.WATER
    canvas.building[at][wet] = NO_BUILDING
    canvas.albedo[at][wet] = pack(canvas.vary(np.array([70, 104, 116]), 10))


def _fill_basin(canvas, rectangle) -> None:
    """Draws a dock: water behind a quay."""
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.PAVED, canvas.vary(canvas.paving, 10), KERB_HEIGHT)
    quay = canvas.rng.uniform(1.5, 4.0)
    at = canvas.slices(left + quay, right - quay, bottom + quay, top - quay)
    _fill_water(canvas, at, np.ones(canvas.height[at].shape, bool))


def _fill_car_park(canvas, rectangle) -> None:
    rng = canvas.rng
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.PAVED, canvas.vary(canvas.asphalt, 8), KERB_HEIGHT)
    y = bottom + 1.0
    facing = 0
    while y + 5.0 < top:
        x = left + 1.0
        while x + 2.6 < right:
            canvas.paint((x, x + canvas.cell, y, y + 5.0), m.PAVED, PAINT, KERB_HEIGHT)
            if rng.random() < 0.45:
                put_car(canvas, x + 1.35, y + 2.5, along_x=False)
            x += 2.6
        y += 5.0 if facing % 2 else 11.0
        facing += 1


def cut_river(canvas) -> None:
    """Draws a winding river under the streets, which cross it as bridges."""
    rng = canvas.rng
    n, cell = canvas.n, canvas.cell
    axis = (np.arange(n) + 0.5) * cell - HALF_EXTENT
    x, y = (axis[None, :], -axis[:, None])
    if rng.random() < 0.5:
        x, y = y, x
    centre = rng.choice((-1.0, 1.0)) * rng.uniform(12.0, 30.0)
    course = centre + rng.uniform(1.0, 5.0) * np.sin(
        x / rng.uniform(12.0, 25.0) + rng.uniform(0, 6)
    )
    wet = np.abs(y - course) < rng.uniform(4.0, 8.0)
    street = (m.ROAD, m.MARKING, m.PAVEMENT, m.KERB)
    wet = wet & ~np.isin(canvas.material, street)
    everything = (slice(0, n), slice(0, n))
    _fill_water(canvas, everything, wet)
    canvas.crown_top[wet] = canvas.crown_bottom[wet] = 0.0
