"""Draws streets: their course, their markings, and the trees beside them."""

from . import materials as m
from .canvas import HALF_EXTENT, KERB_HEIGHT, Canvas, brighten


class Streets:
    """Courses of streets: `long` ones span the raster (x, half width), `cross` ones join two."""

    def __init__(self):
        self.long: list[tuple[float, float]] = []
        self.cross: list[list[tuple[float, float]]] = []
        self.pavement = 0.0
        self.blocks: list[tuple[float, float, float, float]] = []


def _positions(rng, style, start_half: float, start: float) -> list[tuple[float, float]]:
    """Centre lines and half widths of streets on both sides of a first one, in order."""
    streets = [(start, start_half)]
    for sign in (-1.0, 1.0):
        position, half = start, start_half
        while abs(position) < HALF_EXTENT + 8.0:
            next_half = 0.5 * rng.uniform(*style.carriageway)
            position += sign * (half + rng.uniform(*style.block) + next_half)
            half = next_half
            streets.append((position, half))
    return sorted(streets)


def lay_streets(canvas: Canvas) -> Streets:
    """Draws pavements, kerbs, carriageways and markings; finds the blocks between them."""
    rng, style = canvas.rng, canvas.style
    streets = Streets()
    streets.pavement = walk = rng.uniform(*style.pavement)
    half = 0.5 * rng.uniform(*style.carriageway)
    # The camera, at the origin, is in one of the two lanes.
    lane = rng.choice((-1.0, 1.0)) * 0.5 * half
    streets.long = _positions(rng, style, half, lane)
    through = rng.random() < 0.4
    shared = None
    strips = list(zip(streets.long[:-1], streets.long[1:], strict=True))
    for _ in strips:
        if shared is None or not through:
            start_half = 0.5 * rng.uniform(*style.carriageway) * 0.85
            shared = _positions(rng, style, start_half, rng.uniform(-26.0, 26.0))
            if rng.random() < 0.2:
                shared = shared[::2]
        streets.cross.append(shared)

    end = HALF_EXTENT
    bands = []  # Rectangles of carriageways, to be widened for kerb and pavement.
    for x, half in streets.long:
        bands.append((x - half, x + half, -end, end))
    for (left, right), crossings in zip(strips, streets.cross, strict=True):
        bands += [(left[0], right[0], y - half, y + half) for y, half in crossings]
    kerb = brighten(canvas.paving, 1.12, 10)
    for material, colour, height, wider in (
        (m.PAVEMENT, canvas.paving, KERB_HEIGHT, walk),
        (m.KERB, kerb, KERB_HEIGHT, max(0.25, canvas.cell)),
        (m.ROAD, canvas.asphalt, 0.0, 0.0),
    ):
        for number, (left, right, bottom, top) in enumerate(bands):
            # Widen only sideways: lengthening would put the end of a street across the next one.
            if number < len(streets.long):
                left, right = left - wider, right + wider
            else:
                bottom, top = bottom - wider, top + wider
            canvas.paint((left, right, bottom, top), material, colour, height)
    _mark_roads(canvas, streets, strips)
    for (left, right), crossings in zip(strips, streets.cross, strict=True):
        x0, x1 = left[0] + left[1] + walk, right[0] - right[1] - walk
        edges = [-end - 30.0] + [e for y, h in crossings for e in (y - h - walk, y + h + walk)]
        edges += [end + 30.0]
        for y0, y1 in zip(edges[::2], edges[1::2], strict=True):
            y0, y1 = max(y0, -end - 6.0), min(y1, end + 6.0)
            if y1 - y0 > 3.0 and x1 > -end and x0 < end:
                streets.blocks.append((max(x0, -end - 10.0), min(x1, end + 10.0), y0, y1))
    return streets


def _mark_roads(canvas, streets, strips) -> None:
    rng = canvas.rng
    dash, gap = rng.uniform(2.0, 3.5), rng.uniform(2.5, 5.0)
    zebra_long = rng.random(len(streets.long)) < 0.55
    clear = 1.0

    thick = max(0.18, 0.5 * canvas.cell)
    for i, (x, half) in enumerate(streets.long):
        # A long street is interrupted where a cross street opens on either side.
        openings = []
        for strip in (i - 1, i):
            if 0 <= strip < len(strips):
                openings += [(y - h, y + h) for y, h in streets.cross[strip]]
        openings = _merge(openings)
        free = [-HALF_EXTENT - 6.0] + [e for o in openings for e in o] + [HALF_EXTENT + 6.0]
        for begin, end in zip(free[::2], free[1::2], strict=True):
            if zebra_long[i] and end - begin > 12.0:
                for base in (begin + clear, end - clear - 3.0):
                    zebra = (x - half + 0.5, x + half - 0.5, base, base + 3.0)
                    canvas.paint_bars(zebra, 0.5, 0.5, along_x=True)
                begin, end = begin + clear + 4.0, end - clear - 4.0
            line = (x - thick, x + thick, begin + 1.0, end - 1.0)
            canvas.paint_bars(line, dash, gap, along_x=False)
    for (left, right), crossings in zip(strips, streets.cross, strict=True):
        for y, half in crossings:
            begin, end = left[0] + left[1], right[0] - right[1]
            if rng.random() < 0.5 and end - begin > 12.0:
                for base in (begin + clear, end - clear - 3.0):
                    zebra = (base, base + 3.0, y - half + 0.5, y + half - 0.5)
                    canvas.paint_bars(zebra, 0.5, 0.5, along_x=False)
                begin, end = begin + clear + 4.0, end - clear - 4.0
            line = (begin + 1.0, end - 1.0, y - thick, y + thick)
            canvas.paint_bars(line, dash, gap, along_x=True)


def _merge(intervals):
    merged: list[list[float]] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def plant_street_trees(canvas, streets) -> None:
    """Plants rows of trees on the pavements of some of the long streets."""
    rng, style = canvas.rng, canvas.style
    radius_range = (1.3, 2.4)
    for x, half in streets.long:
        for side in (-1.0, 1.0):
            if rng.random() >= style.street_trees:
                continue
            spacing = rng.uniform(7.0, 13.0)
            position = -HALF_EXTENT + rng.uniform(0.0, spacing)
            while position < HALF_EXTENT:
                radius = rng.uniform(*radius_range)
                tree_x = x + side * (half + 0.8)
                canvas.put_tree(tree_x, position, radius, radius * rng.uniform(2.2, 3.0) + 0.8)
                position += spacing * rng.uniform(0.85, 1.15)
