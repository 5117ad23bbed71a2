"""Makes one scene of a procedural town from a seed.

The town is drawn in the frame of its streets, where everything is an axis-aligned rectangle and
costs one array slice; the scene's random `heading` then turns it against the compass.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from . import materials as m
from .noise import periodic_noise
from .scene import FLAT, GABLED, HIPPED, NO_BUILDING, Buildings, Scene
from .styles import STYLES, Style

HALF_EXTENT = 56.0
_KERB_HEIGHT = 0.15
_WATER_LEVEL = -0.8


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
    canvas = _Canvas(STYLES[style], rng, cell_size)
    streets = _lay_streets(canvas)
    for block in streets.blocks:
        _fill_block(canvas, *block)
    if rng.random() < 0.14:
        _cut_river(canvas)
    _park_cars(canvas, streets)
    _plant_street_trees(canvas, streets)
    return canvas.to_scene(heading=rng.uniform(0.0, 2.0 * math.pi))


class _Canvas:
    """The rasters while they are drawn on; rectangles are (left, right, bottom, top) in metres."""

    def __init__(self, style: Style, rng: np.random.Generator, cell_size: float):
        n = round(2 * HALF_EXTENT / cell_size)
        self.style, self.rng, self.cell, self.n = style, rng, cell_size, n
        self.height = np.full((n, n), _KERB_HEIGHT, np.float32)
        self.material = np.full((n, n), m.PAVED, np.uint8)
        self.building = np.full((n, n), NO_BUILDING, np.int16)
        # Packed by `_pack`, so that to fill a rectangle is to fill it with one number.
        self.albedo = np.zeros((n, n), np.uint32)
        self.crown_bottom = np.zeros((n, n), np.float32)
        self.crown_top = np.zeros((n, n), np.float32)
        self.crown_albedo = np.zeros((n, n, 3), np.uint8)
        self.parts: list[tuple] = []
        self.asphalt = self.pick(style.asphalt)
        self.paving = self.pick(style.paving)
        self.grass = self.vary(np.array([104, 130, 70]), 14)

    def pick(self, palette: np.ndarray, spread: float = 9.0) -> np.ndarray:
        return self.vary(palette[self.rng.integers(len(palette))], spread)

    def vary(self, colour: np.ndarray, spread: float) -> np.ndarray:
        shared, *own = self.rng.random(4).tolist()
        shift = [spread * (2.0 * shared - 1.0 + 0.8 * x - 0.4) for x in own]
        return np.array(
            [min(max(int(c + s), 0), 255) for c, s in zip(colour.tolist(), shift, strict=True)],
            np.uint8,
        )

    def slices(self, left: float, right: float, bottom: float, top: float):
        """Array slices of a rectangle, empty where it is off the raster."""
        n = self.n
        if left >= HALF_EXTENT or right <= -HALF_EXTENT:
            return slice(0, 0), slice(0, 0)
        if bottom >= HALF_EXTENT or top <= -HALF_EXTENT:
            return slice(0, 0), slice(0, 0)
        scale = 1.0 / self.cell
        first = min(max(round((HALF_EXTENT - top) * scale), 0), n)
        last = min(max(round((HALF_EXTENT - bottom) * scale), 0), n)
        start = min(max(round((left + HALF_EXTENT) * scale), 0), n)
        stop = min(max(round((right + HALF_EXTENT) * scale), 0), n)
        return slice(first, last), slice(start, stop)

    def paint(self, rectangle, material: int, colour, height: float) -> None:
        at = rows, columns = self.slices(*rectangle)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        self.height[at] = height
        self.material[at] = material
        self.albedo[at] = _pack(colour)

    def paint_bars(self, rectangle, bar: float, gap: float, *, along_x: bool) -> None:
        """White road paint: bars, repeated along x or y, that fill the rectangle's other axis."""
        rows, columns = self.slices(*rectangle)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # Cells counted from the rectangle's own edge, which may lie off the raster.
        axis = columns if along_x else rows
        edge = HALF_EXTENT + rectangle[0] if along_x else HALF_EXTENT - rectangle[3]
        offset = (np.arange(axis.start, axis.stop) + 0.5) * self.cell - edge
        painted = axis.start + np.flatnonzero(np.mod(offset, bar + gap) < bar)
        at = (rows, painted) if along_x else (painted, columns)
        self.material[at] = m.MARKING
        self.albedo[at] = _pack(_PAINT)

    def put_tree(self, x: float, y: float, radius: float, total: float) -> None:
        """A round crown on a trunk, `total` metres high."""
        n, cell = self.n, self.cell
        steps = max(2, round(radius / cell))
        row, column = round((HALF_EXTENT - y) / cell), round((x + HALF_EXTENT) / cell)
        top, left = row - steps, column - steps
        if top < 0 or left < 0 or top + 2 * steps > n or left + 2 * steps > n:
            return
        if self.material[row, column] in (m.ROAD, m.MARKING, m.WATER, m.BUILDING):
            return
        at = (slice(top, top + 2 * steps), slice(left, left + 2 * steps))
        up, down, shade = _crown_stamp(steps, int(self.rng.integers(6)))
        thickness = min(0.75 * total, 2.2 * radius)
        middle = total - 0.5 * thickness
        crown_top = middle + 0.5 * thickness * up
        crown_bottom = middle - 0.5 * thickness * down
        free = (shade > 0) & (self.height[at] < crown_bottom)
        taller = free & (crown_top > self.crown_top[at])
        occupied = self.crown_top[at] > self.crown_bottom[at]
        lower = np.where(occupied, np.minimum(self.crown_bottom[at], crown_bottom), crown_bottom)
        self.crown_bottom[at][taller] = lower[taller]
        self.crown_top[at][taller] = crown_top[taller]
        green = self.vary(_CROWN_GREENS[self.rng.integers(len(_CROWN_GREENS))], 8)
        colour = np.clip(green * shade[..., None], 0, 255).astype(np.uint8)
        self.crown_albedo[at][taller] = colour[taller]
        trunk = (slice(row - 1, row + 1), slice(column - 1, column + 1))
        self.height[trunk] = middle
        self.material[trunk] = m.TREE

    def put_building(self, rectangle, look: dict) -> None:
        """One rectangular part; `look` comes from `_draw_look` and may be shared by several."""
        left, right, bottom, top = rectangle
        at = self.slices(*rectangle)
        rows, columns = self.height[at].shape
        if min(rows, columns) < 6:
            return
        # Snap to the cells, so that facade and raster agree.
        half, cell = HALF_EXTENT, self.cell
        left, right = at[1].start * cell - half, at[1].stop * cell - half
        top, bottom = half - at[0].start * cell, half - at[0].stop * cell
        self.building[at] = len(self.parts)
        self.material[at] = m.BUILDING
        self.parts.append(
            (
                (0.5 * (left + right), 0.5 * (bottom + top)),
                (0.5 * (right - left), 0.5 * (top - bottom)),
                look,
            )
        )
        if look["roof_kind"] == FLAT:
            self._put_flat_roof(at, look)
        else:
            self._put_pitched_roof(at, look)

    def _put_pitched_roof(self, at, look) -> None:
        rows, columns = self.height[at].shape
        down = (rows / 2 - np.abs(np.arange(rows) + 0.5 - rows / 2)).astype(np.float32)[:, None]
        across = columns / 2 - np.abs(np.arange(columns) + 0.5 - columns / 2)
        across = across.astype(np.float32)[None, :]
        short = down if rows <= columns else across
        if look["roof_kind"] == GABLED:
            rise = np.broadcast_to(short, (rows, columns))
        else:
            rise = np.minimum(down, across)
        pitch = min(look["pitch"], 4.5 / (self.cell * min(rows, columns) / 2))
        self.height[at] = look["wall_height"] + pitch * self.cell * rise
        # Courses of tiles, and the ridge (and hips) in a paler line.
        roof, course, ridge = (_pack(_brighten(look["roof"], gain)) for gain in (1.0, 0.94, 1.12))
        odd = (rise * np.float32(self.cell / 0.7)).astype(np.int32) & 1
        colour = np.where(odd, np.uint32(course), np.uint32(roof))
        colour[rise >= short.max() - 0.5] = ridge
        self.albedo[at] = colour
        if self.rng.random() < 0.5:
            r = int(rows * self.rng.uniform(0.25, 0.75))
            c = int(columns * self.rng.uniform(0.25, 0.75))
            k = max(2, round(0.9 / self.cell))
            chimney = (
                slice(at[0].start + r, at[0].start + r + k),
                slice(at[1].start + c, at[1].start + c + k),
            )
            self.height[chimney] = self.height[chimney].max(initial=0.0) + 1.0
            self.albedo[chimney] = _pack((132, 92, 80))

    def _put_flat_roof(self, at, look) -> None:
        rows, columns = self.height[at].shape
        rim = max(1, round(0.4 / self.cell))
        wall = look["wall_height"]
        self.height[at] = wall + 0.6
        self.albedo[at] = _pack(_brighten(look["roof"], 1.1, 12))
        inner = (
            slice(at[0].start + rim, at[0].stop - rim),
            slice(at[1].start + rim, at[1].stop - rim),
        )
        self.height[inner] = wall
        self.albedo[inner] = _pack(look["roof"])
        rng = self.rng
        area = rows * columns * self.cell**2
        for _ in range(min(6, rng.poisson(area / 45.0))):
            size = rng.uniform(1.0, 2.6, 2)
            h, w = (max(2, round(s / self.cell)) for s in size)
            if rows - 4 * rim <= h or columns - 4 * rim <= w:
                continue
            r = at[0].start + 2 * rim + int(rng.integers(rows - 4 * rim - h))
            c = at[1].start + 2 * rim + int(rng.integers(columns - 4 * rim - w))
            box = (slice(r, r + h), slice(c, c + w))
            if rng.random() < 0.3:
                self.albedo[box] = _pack((92, 122, 146))  # Skylight.
                continue
            self.height[box] = wall + rng.uniform(0.8, 2.2)
            self.albedo[box] = _pack([rng.integers(110, 215)] * 3)

    def to_scene(self, heading: float) -> Scene:
        looks = [look for _, _, look in self.parts]

        def column(key, dtype=np.float32):
            return np.array([look[key] for look in looks], dtype)

        buildings = Buildings(
            centre=np.array([c for c, _, _ in self.parts], np.float32).reshape(-1, 2),
            angle=np.zeros(len(looks), np.float32),
            half_size=np.array([h for _, h, _ in self.parts], np.float32).reshape(-1, 2),
            wall_height=column("wall_height"),
            roof_kind=column("roof_kind", np.int64),
            facade=column("facade", np.uint8).reshape(-1, 3),
            storey_height=column("storey_height"),
            bay_width=column("bay_width"),
            window_share=column("window_share"),
            shop=column("shop", bool),
        )
        return Scene(
            cell_size=self.cell,
            height=self.height,
            material=self.material,
            building=self.building,
            albedo=self._mottled_albedo(),
            crown_bottom=self.crown_bottom,
            crown_top=self.crown_top,
            crown_albedo=self.crown_albedo,
            buildings=buildings,
            heading=heading,
        )

    def _mottled_albedo(self) -> np.ndarray:
        """Flat colours broken up by the noise, as strongly as each material asks for."""
        noise = periodic_noise(1024, 0.7)
        row, column = (int(x) for x in self.rng.integers(0, len(noise) - self.n + 1, 2))
        noise = noise[row : row + self.n, column : column + self.n]
        gain = m.MOTTLE[self.material] * noise
        gain *= 128.0
        gain += 128.0
        gain = np.clip(gain, 80.0, 180.0, out=gain).astype(np.uint8)
        mottled = np.empty((self.n, self.n, 3), np.uint8)
        for channel in range(3):  # One by one: NumPy is slow over an innermost axis of three.
            colour = (self.albedo >> (8 * channel)).astype(np.uint8)
            colour = np.multiply(colour, gain, dtype=np.uint16)
            colour >>= 7
            np.minimum(colour, 255, out=colour)
            mottled[..., channel] = colour
        return mottled


def _pack(colour) -> int:
    """Three bytes as one number, red lowest."""
    red, green, blue = colour
    return int(red) | int(green) << 8 | int(blue) << 16


def _brighten(colour: np.ndarray, gain: float, offset: float = 0.0) -> np.ndarray:
    return np.clip(colour * gain + offset, 0, 255).astype(np.uint8)


_CROWN_GREENS = np.array([[74, 104, 50], [92, 116, 58], [60, 92, 56], [112, 120, 56], [84, 98, 44]])


@functools.lru_cache(maxsize=256)
def _crown_stamp(steps: int, variant: int):
    """Upper and lower bulge in [0, 1] and leaf brightness of a crown 2 * steps cells across.

    The brightness is 0 outside of the crown.
    """
    rng = np.random.default_rng([steps, variant])
    offset = (np.arange(2 * steps) + 0.5 - steps) / steps
    x, y = offset[None, :], offset[:, None]
    angle = np.arctan2(y, x)
    lobes = sum(
        rng.uniform(0.02, 0.07) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5)
    )
    radius = np.hypot(x, y) / (0.88 + lobes)
    bulge = np.sqrt(np.clip(1.0 - radius**2, 0.0, 1.0))
    leaves = periodic_noise(512, 1.1)[: 2 * steps, variant * 64 : variant * 64 + 2 * steps]
    inside = radius < 1.0
    up = np.clip(bulge + 0.10 * leaves * inside, 0.0, 1.2)
    brightness = np.where(inside, 1.0 + 0.13 * leaves, 0.0)
    return up.astype(np.float32), (0.75 * bulge).astype(np.float32), brightness.astype(np.float32)


class _Streets:
    """Where streets run: `long` ones (x, half width) all the way, `cross` ones between two."""

    def __init__(self):
        self.long: list[tuple[float, float]] = []
        self.cross: list[list[tuple[float, float]]] = []
        self.pavement = 0.0
        self.blocks: list[tuple[float, float, float, float]] = []


def _positions(rng, style, start_half: float, start: float) -> list[tuple[float, float]]:
    """Street centre lines and half widths on both sides of a first one, in order."""
    streets = [(start, start_half)]
    for sign in (-1.0, 1.0):
        position, half = start, start_half
        while abs(position) < HALF_EXTENT + 8.0:
            next_half = 0.5 * rng.uniform(*style.carriageway)
            position += sign * (half + rng.uniform(*style.block) + next_half)
            half = next_half
            streets.append((position, half))
    return sorted(streets)


def _lay_streets(canvas: _Canvas) -> _Streets:
    """Draws pavements, kerbs, carriageways and markings; finds the blocks between them."""
    rng, style = canvas.rng, canvas.style
    streets = _Streets()
    streets.pavement = walk = rng.uniform(*style.pavement)
    half = 0.5 * rng.uniform(*style.carriageway)
    # The camera, at the origin, stands in one of the two lanes.
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
    kerb = _brighten(canvas.paving, 1.12, 10)
    for material, colour, height, wider in (
        (m.PAVEMENT, canvas.paving, _KERB_HEIGHT, walk),
        (m.KERB, kerb, _KERB_HEIGHT, max(0.25, canvas.cell)),
        (m.ROAD, canvas.asphalt, 0.0, 0.0),
    ):
        for number, (left, right, bottom, top) in enumerate(bands):
            # Only sideways: lengthening would lay the end of a street across the next.
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


_PAINT = (222, 221, 214)


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


def _fill_block(canvas: _Canvas, left, right, bottom, top) -> None:
    """Gives one block its use and draws it."""
    rng = canvas.rng
    rectangle = (left, right, bottom, top)
    short = min(right - left, top - bottom)
    if short < 7.0:
        canvas.paint(rectangle, m.GRASS, canvas.grass, _KERB_HEIGHT)
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
        _fill_gardens(canvas, rectangle)
    else:
        _fill_rows(canvas, rectangle)


def _fill_park(canvas, rectangle) -> None:
    rng = canvas.rng
    left, right, bottom, top = rectangle
    width, depth = right - left, top - bottom
    canvas.paint(rectangle, m.GRASS, canvas.grass, _KERB_HEIGHT)
    path = canvas.vary(np.array([186, 168, 132]), 12)
    x, y = left + width * rng.uniform(0.3, 0.7), bottom + depth * rng.uniform(0.3, 0.7)
    canvas.paint((x - 1.1, x + 1.1, bottom, top), m.PAVED, path, _KERB_HEIGHT)
    canvas.paint((left, right, y - 1.1, y + 1.1), m.PAVED, path, _KERB_HEIGHT)
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
    canvas.height[at][wet] = _WATER_LEVEL
    canvas.material[at][wet] = m.WATER
    canvas.building[at][wet] = NO_BUILDING
    canvas.albedo[at][wet] = _pack(canvas.vary(np.array([70, 104, 116]), 10))


def _fill_basin(canvas, rectangle) -> None:
    """A dock: water behind a quay."""
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.PAVED, canvas.vary(canvas.paving, 10), _KERB_HEIGHT)
    quay = canvas.rng.uniform(1.5, 4.0)
    at = canvas.slices(left + quay, right - quay, bottom + quay, top - quay)
    _fill_water(canvas, at, np.ones(canvas.height[at].shape, bool))


def _fill_car_park(canvas, rectangle) -> None:
    rng = canvas.rng
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.PAVED, canvas.vary(canvas.asphalt, 8), _KERB_HEIGHT)
    y = bottom + 1.0
    facing = 0
    while y + 5.0 < top:
        x = left + 1.0
        while x + 2.6 < right:
            canvas.paint((x, x + canvas.cell, y, y + 5.0), m.PAVED, _PAINT, _KERB_HEIGHT)
            if rng.random() < 0.45:
                _put_car(canvas, x + 1.35, y + 2.5, along_x=False)
            x += 2.6
        y += 5.0 if facing % 2 else 11.0
        facing += 1


def _draw_look(canvas: _Canvas, *, max_storeys: int = 99) -> dict:
    """Attributes of one building. The facade's colour leans towards the roof's, no more."""
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
        "wall_height": _KERB_HEIGHT + storeys * storey_height + (0.0 if pitched else 0.3),
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
    """Random cuts of [begin, end] into pieces about as wide as asked."""
    cuts = [begin]
    while end - cuts[-1] > widths[0] + widths[1]:
        cuts.append(cuts[-1] + rng.uniform(*widths))
    if end - cuts[-1] > widths[1]:
        cuts.append(0.5 * (cuts[-1] + end))
    return [*cuts, end]


def _fill_rows(canvas, rectangle) -> None:
    """Terraces around a yard: a row of buildings along each of the block's long sides."""
    rng, style = canvas.rng, canvas.style
    left, right, bottom, top = rectangle
    yard = canvas.grass if rng.random() < 0.5 else canvas.vary(canvas.paving, 14)
    canvas.paint(rectangle, m.GRASS if yard is canvas.grass else m.PAVED, yard, _KERB_HEIGHT)
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
            if rng.random() < 0.1:  # A gap in the row, and a tree in it.
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


def _fill_gardens(canvas, rectangle) -> None:
    """Free-standing houses behind hedges."""
    rng, style = canvas.rng, canvas.style
    left, right, bottom, top = rectangle
    canvas.paint(rectangle, m.GRASS, canvas.vary(canvas.grass, 8), _KERB_HEIGHT)
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
    """A lower part across one end, which turns the footprint into an L or a T."""
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


def _cut_river(canvas) -> None:
    """A winding river under the streets, which cross it as bridges."""
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


_CAR_COLOURS = np.array(
    [[214, 214, 212], [60, 62, 66], [128, 132, 136], [150, 44, 40], [52, 78, 128], [34, 36, 40],
     [186, 178, 160], [66, 96, 78], [206, 168, 62]]
)  # fmt: skip


def _put_car(canvas, x: float, y: float, *, along_x: bool) -> None:
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


def _park_cars(canvas, streets) -> None:
    """Cars along the kerbs, clear of junctions and of the camera."""
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
    # Beside the car must be a kerb, not the mouth of a side street; under it no zebra.
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
    _put_car(canvas, x, y, along_x=along_x)


def _plant_street_trees(canvas, streets) -> None:
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
