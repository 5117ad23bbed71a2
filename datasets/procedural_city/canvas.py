"""The rasters on which a town is drawn, and the drawing of ground, paint, trees and buildings."""

import functools

import numpy as np

from . import materials as m
from .noise import periodic_noise
from .scene import FLAT, GABLED, NO_BUILDING, Buildings, Scene
from .styles import Style

HALF_EXTENT = 56.0
KERB_HEIGHT = 0.15
PAINT = (222, 221, 214)


class Canvas:
    """The rasters of a scene being drawn; rectangles are (left, right, bottom, top) in metres."""

    def __init__(self, style: Style, rng: np.random.Generator, cell_size: float):
        n = round(2 * HALF_EXTENT / cell_size)
        self.style, self.rng, self.cell, self.n = style, rng, cell_size, n
        self.height = np.full((n, n), KERB_HEIGHT, np.float32)
        self.material = np.full((n, n), m.PAVED, np.uint8)
        self.building = np.full((n, n), NO_BUILDING, np.int16)
        # Packed by `pack`, so that filling a rectangle writes one number per cell.
        self.albedo = np.zeros((n, n), np.uint32)
        self.crown_bottom = np.zeros((n, n), np.float32)
        self.crown_top = np.zeros((n, n), np.float32)
        self.crown_albedo = np.zeros((n, n, 3), np.uint8)
        self.parts: list[tuple] = []
        self.asphalt = self.pick(style.asphalt)
        self.paving = self.pick(style.paving)
        self.grass = self.vary(np.array([104, 130, 70]), 14)

    def pick(self, palette: np.ndarray, spread: float = 9.0) -> np.ndarray:
        """A random colour of the palette, varied by `vary`."""
        return self.vary(palette[self.rng.integers(len(palette))], spread)

    def vary(self, colour: np.ndarray, spread: float) -> np.ndarray:
        """The colour, RGB uint8 [3], up to `spread` lighter or darker and slightly tinted."""
        shared, *own = self.rng.random(4).tolist()
        shift = [spread * (2.0 * shared - 1.0 + 0.8 * x - 0.4) for x in own]
        return np.array(
            [min(max(int(c + s), 0), 255) for c, s in zip(colour.tolist(), shift, strict=True)],
            np.uint8,
        )

    def slices(self, left: float, right: float, bottom: float, top: float):
        """Array slices of a rectangle, empty if it lies outside the raster."""
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
        """Fills a rectangle with one material, one colour, one height in metres."""
        at = rows, columns = self.slices(*rectangle)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        self.height[at] = height
        self.material[at] = material
        self.albedo[at] = pack(colour)

    def paint_bars(self, rectangle, bar: float, gap: float, *, along_x: bool) -> None:
        """Paints white road bars, repeated along x or y, that fill the rectangle's other axis."""
        rows, columns = self.slices(*rectangle)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # Cells are counted from the rectangle's own edge, which may lie outside the raster.
        axis = columns if along_x else rows
        edge = HALF_EXTENT + rectangle[0] if along_x else HALF_EXTENT - rectangle[3]
        offset = (np.arange(axis.start, axis.stop) + 0.5) * self.cell - edge
        painted = axis.start + np.flatnonzero(np.mod(offset, bar + gap) < bar)
        at = (rows, painted) if along_x else (painted, columns)
        self.material[at] = m.MARKING
        self.albedo[at] = pack(PAINT)

    def put_tree(self, x: float, y: float, radius: float, total: float) -> None:
        """Draws a tree with a round crown on a trunk, `total` metres high."""
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
        """Draws one rectangular building part; `look` is from `_draw_look`, parts may share it."""
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
        # Two shades for the courses of tiles, and a paler line for the ridge (and hips).
        roof, course, ridge = (pack(brighten(look["roof"], gain)) for gain in (1.0, 0.94, 1.12))
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
            self.albedo[chimney] = pack((132, 92, 80))

    def _put_flat_roof(self, at, look) -> None:
        rows, columns = self.height[at].shape
        rim = max(1, round(0.4 / self.cell))
        wall = look["wall_height"]
        self.height[at] = wall + 0.6
        self.albedo[at] = pack(brighten(look["roof"], 1.1, 12))
        inner = (
            slice(at[0].start + rim, at[0].stop - rim),
            slice(at[1].start + rim, at[1].stop - rim),
        )
        self.height[inner] = wall
        self.albedo[inner] = pack(look["roof"])
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
                self.albedo[box] = pack((92, 122, 146))  # Skylight.
                continue
            self.height[box] = wall + rng.uniform(0.8, 2.2)
            self.albedo[box] = pack([rng.integers(110, 215)] * 3)

    def to_scene(self, heading: float) -> Scene:
        """The drawing as a scene whose up direction has the compass bearing `heading`, radians."""
        looks = [look for _, _, look in self.parts]

        def column(key: str, dtype: type = np.float32) -> np.ndarray:
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
        """Flat colours modulated by the noise, with the strength of each material (`MOTTLE`)."""
        noise = periodic_noise(1024, 0.7)
        row, column = (int(x) for x in self.rng.integers(0, len(noise) - self.n + 1, 2))
        noise = noise[row : row + self.n, column : column + self.n]
        gain = m.MOTTLE[self.material] * noise
        gain *= 128.0
        gain += 128.0
        gain = np.clip(gain, 80.0, 180.0, out=gain).astype(np.uint8)
        mottled = np.empty((self.n, self.n, 3), np.uint8)
        for channel in range(3):  # Per channel: NumPy is slow over an innermost axis of three.
            colour = (self.albedo >> (8 * channel)).astype(np.uint8)
            colour = np.multiply(colour, gain, dtype=np.uint16)
            colour >>= 7
            np.minimum(colour, 255, out=colour)
            mottled[..., channel] = colour
        return mottled


def pack(colour) -> int:
    """Packs three bytes into one number, red in the lowest byte."""
    red, green, blue = colour
    return int(red) | int(green) << 8 | int(blue) << 16


def brighten(colour: np.ndarray, gain: float, offset: float = 0.0) -> np.ndarray:
    """colour * gain + offset, as uint8."""
    return np.clip(colour * gain + offset, 0, 255).astype(np.uint8)


_CROWN_GREENS = np.array([[74, 104, 50], [92, 116, 58], [60, 92, 56], [112, 120, 56], [84, 98, 44]])


@functools.lru_cache(maxsize=256)
def _crown_stamp(steps: int, variant: int):
    """Upper and lower bulge in [0, 1] and leaf brightness of a crown 2 * steps cells across.

    The brightness is 0 outside the crown.
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
