"""Draws built blocks (terraces or free-standing houses) and the appearance of buildings."""

import numpy as np

from . import materials as m
from .canvas import KERB_HEIGHT, Canvas
from .scene import FLAT, GABLED, HIPPED


def fill_rows(canvas, rectangle) -> None:
    """Draws terraces around a yard: a row of buildings along each long side of the block."""
    rng, style = canvas.rng, canvas.style
    left, right, bottom, top = rectangle
    yard = canvas.grass if rng.random() < 0.5 else canvas.vary(canvas.paving, 14)
    canvas.paint(rectangle, m.GRASS if yard is canvas.grass else m.PAVED, yard, KERB_HEIGHT)
    swap = top - bottom > right - left
    x0, x1, y0, y1 = (bottom, top, left, right) if swap else rectangle
    setback = rng.choice((0.0, 0.0, 1.5, 3.0))
    x0, x1, y0, y1 = x0 + setback, x1 - setback, y0 + setback, y1 - setback
    rows = [(y0, y1)]
    if y1 - y0 > 17.0:
        depth = min(rng.uniform(*style.depth), 0.46 * (y1 - y0))
        rows = [(y0, y0 + depth), (y1 - depth, y1)]
    for row_y0, row_y1 in rows:
        cuts = _split(rng, x0, x1, style.lot)
        for a, b in zip(cuts[:-1], cuts[1:], strict=True):
            if rng.random() < 0.1:  # A gap in the row, with a tree.
                tree = (0.5 * (a + b), 0.5 * (row_y0 + row_y1))
                canvas.put_tree(*(tree[::-1] if swap else tree), 2.4, 6.0)
                continue
            inset = rng.uniform(0.0, 1.5) if rng.random() < 0.4 else 0.0
            low = row_y0 + (inset if row_y0 == y0 else 0.0)
            high = row_y1 - (inset if row_y1 == y1 else 0.0)
            part = (low, high, a, b) if swap else (a, b, low, high)
            canvas.put_building(part, _draw_look(canvas))
    if len(rows) == 2 and rows[1][0] - rows[0][1] > 5.0:
        for _ in range(rng.integers(0, 5)):
            tree = (rng.uniform(x0, x1), rng.uniform(rows[0][1] + 2.0, rows[1][0] - 2.0))
            radius = rng.uniform(1.4, 2.4)
            canvas.put_tree(*(tree[::-1] if swap else tree), radius, radius * 2.3)


def fill_gardens(canvas, rectangle) -> None:
    """Draws free-standing houses behind hedges."""
    rng, style = canvas.rng, canvas.style
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.GRASS, canvas.vary(canvas.grass, 8), KERB_HEIGHT)
    if rng.random() < 0.5:
        hedge = canvas.vary(np.array([66, 92, 48]), 8)
        tall = rng.uniform(0.8, 1.5)
        canvas.paint((left, right, bottom, bottom + 0.7), m.HEDGE, hedge, tall)
        canvas.paint((left, right, top - 0.7, top), m.HEDGE, hedge, tall)
    lot = (style.lot[0] + 4.0, style.lot[1] + 2.0)
    rows = _split(rng, bottom, top, (style.depth[0] + 6.0, style.depth[1] + 7.0))
    for y0, y1 in zip(rows[:-1], rows[1:], strict=True):
        columns = _split(rng, left, right, lot)
        for x0, x1 in zip(columns[:-1], columns[1:], strict=True):
            gap = rng.uniform(1.2, 3.2, 4)
            if rng.random() < 0.08:
                continue
            look = _draw_look(canvas, max_storeys=3)
            look["shop"] = False
            house = (x0 + gap[0], x1 - gap[1], y0 + gap[2], y1 - gap[3])
            canvas.put_building(house, look)
            if rng.random() < 0.35:
                _add_wing(canvas, house, look)
            for _ in range(rng.integers(0, 3)):
                radius = rng.uniform(1.2, 2.4)
                x = rng.choice((x0 + 1.0, x1 - 1.0))
                canvas.put_tree(x, rng.uniform(y0, y1), radius, radius * rng.uniform(2.0, 2.8))


def _add_wing(canvas, house, look) -> None:
    """Adds a lower part across one end, which makes the footprint an L or a T."""
    rng = canvas.rng
    left, right, bottom, top = house
    wing = dict(look, wall_height=max(3.0, look["wall_height"] - look["storey_height"]))
    width = 0.45 * (right - left)
    x = rng.choice((left, right - width, left + 0.5 * width))
    grow = rng.uniform(1.5, 3.0)
    if rng.random() < 0.5:
        canvas.put_building((x, x + width, top, top + grow), dict(wing, roof_kind=FLAT))
    else:
        canvas.put_building((x, x + width, bottom - grow, bottom), dict(wing, roof_kind=FLAT))


def _draw_look(canvas: Canvas, *, max_storeys: int = 99) -> dict:
    """Random attributes of one building; the facade's colour only leans towards the roof's."""
    rng, style = canvas.rng, canvas.style
    weights = np.array(style.storeys[:max_storeys])
    storeys = 1 + rng.choice(len(weights), p=weights / weights.sum())
    storey_height = rng.uniform(*style.storey_height)
    pitched = rng.random() < style.pitched and storeys <= 5
    roof = canvas.pick(style.pitched_roofs if pitched else style.flat_roofs)
    own = canvas.pick(style.facades)
    lean = rng.uniform(0.15, 0.5)
    facade = ((1.0 - lean) * own + lean * roof).astype(np.uint8)
    kind = FLAT
    if pitched:
        kind = GABLED if rng.random() < 0.6 else HIPPED
    return {
        "wall_height": KERB_HEIGHT + storeys * storey_height + (0.0 if pitched else 0.3),
        "roof_kind": kind,
        "pitch": rng.uniform(0.55, 1.0),
        "roof": roof,
        "facade": facade,
        "storey_height": storey_height,
        "bay_width": rng.uniform(2.4, 4.2),
        "window_share": rng.uniform(0.35, 0.6) if rng.random() < 0.8 else 0.86,
        "shop": not pitched and storeys >= 2 and rng.random() < 0.5,
    }


def _split(rng, begin: float, end: float, widths: tuple[float, float]) -> list[float]:
    """Random cuts of [begin, end] into pieces with widths roughly in the given range."""
    cuts = [begin]
    while end - cuts[-1] > widths[0] + widths[1]:
        cuts.append(cuts[-1] + rng.uniform(*widths))
    if end - cuts[-1] > widths[1]:
        cuts.append(0.5 * (cuts[-1] + end))
    return [*cuts, end]
