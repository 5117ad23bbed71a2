"""A scene: plain arrays, in metres, of the surroundings of one camera.

The renderers use nothing else, so geometry from another source (such as a LiDAR surface model with
its orthophoto) can be rendered by filling the same arrays.
"""

import dataclasses
import functools
import math

import numpy as np

FLAT, GABLED, HIPPED = 0, 1, 2
NO_BUILDING = -1


@dataclasses.dataclass(frozen=True)
class Buildings:
    """Attributes of n rectangular building parts, one row each; row i is building i of a scene.

    Attributes:
      centre: metres right of and above the raster's centre, float32 [n, 2].
      angle: anticlockwise angle from the raster's x axis to the part's own x axis, radians [n].
      half_size: half extents along the part's own x and y axes, metres [n, 2].
      wall_height: height at which the facade ends and the roof (or parapet) begins, metres [n].
      roof_kind: FLAT, GABLED or HIPPED [n]. Gables stand on the short sides.
      facade: RGB uint8 [n, 3].
      storey_height, bay_width: spacing of the windows, metres [n].
      window_share: width of a window as a share of its bay [n].
      shop: whether the ground floor is glazed [n].
    """

    centre: np.ndarray
    angle: np.ndarray
    half_size: np.ndarray
    wall_height: np.ndarray
    roof_kind: np.ndarray
    facade: np.ndarray
    storey_height: np.ndarray
    bay_width: np.ndarray
    window_share: np.ndarray
    shop: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
    """The surroundings of one camera, on a square raster with the camera above its centre.

    Row 0 is the raster's top; its up direction has compass bearing `heading`.

    Attributes:
      cell_size: metres per cell.
      height: top of ground, building, car ... above the road, metres, float32 [n, n].
      material: ids of materials.py, uint8 [n, n]. Under a tree: the material below its crown.
      building: row of `buildings`, or NO_BUILDING, int16 [n, n].
      albedo: colour seen from above, RGB uint8 [n, n, 3].
      crown_bottom, crown_top: extent of the tree crown that floats above the cell, metres,
        float32 [n, n]; equal where there is no crown.
      crown_albedo: colour of the crown, RGB uint8 [n, n, 3].
      buildings: the building parts.
      heading: compass bearing of the raster's up direction, radians clockwise from north.
      sun_bearing, sun_elevation: compass bearing and elevation of the sun, radians.
      camera_height: metres above the road.
    """

    cell_size: float
    height: np.ndarray
    material: np.ndarray
    building: np.ndarray
    albedo: np.ndarray
    crown_bottom: np.ndarray
    crown_top: np.ndarray
    crown_albedo: np.ndarray
    buildings: Buildings
    heading: float = 0.0
    sun_bearing: float = math.radians(215.0)
    sun_elevation: float = math.radians(50.0)
    camera_height: float = 2.5

    @property
    def extent(self) -> float:
        """Metres from the centre to the edge of the raster."""
        return 0.5 * self.cell_size * self.height.shape[0]

    @functools.cached_property
    def has_crown(self) -> np.ndarray:
        """Whether a tree crown floats above each cell, bool [n, n]."""
        return self.crown_top > self.crown_bottom

    @functools.cached_property
    def surface(self) -> np.ndarray:
        """Height of the first thing seen from above, metres [n, n]."""
        return np.maximum(self.height, self.crown_top)

    @functools.cached_property
    def shadow_height(self) -> np.ndarray:
        """Height below which a point over the cell is in another cell's shadow, metres [n, n].

        The maximum over s of surface(x + s * to_sun) - s * tan(sun_elevation), for all s at once by
        doubling the range: six passes cover 32 steps of two cells and more.
        """
        bearing = self.sun_bearing - self.heading
        step = max(2.0 * self.cell_size, 0.5)
        drop = step * math.tan(self.sun_elevation)
        per_step = step / self.cell_size
        down, right = -math.cos(bearing) * per_step, math.sin(bearing) * per_step
        shadow = _shift(self.surface, round(down), round(right)) - np.float32(drop)
        for reach in (1, 2, 4, 8, 16, 32):
            moved = _shift(shadow, round(reach * down), round(reach * right))
            moved -= np.float32(reach * drop)
            np.maximum(shadow, moved, out=shadow)
        return shadow

    @functools.cached_property
    def sunlight(self) -> np.ndarray:
        """Direct sun on each cell as seen from above, float32 [n, n]; 1 is level and lit."""
        bearing = self.sun_bearing - self.heading
        slope = math.cos(self.sun_elevation) / math.sin(self.sun_elevation)
        surface = self.surface
        light = _rise(surface, 0, self.cell_size) * np.float32(math.cos(bearing) * slope)
        light -= _rise(surface, 1, self.cell_size) * np.float32(math.sin(bearing) * slope)
        light += 1.0
        np.clip(light, 0.0, 1.5, out=light)
        light *= self.shadow_height <= surface + 0.05
        return light


def _rise(surface: np.ndarray, axis: int, cell_size: float) -> np.ndarray:
    """Slope of the surface along an axis, [n, n]; 0 for walls (steeper than 60 degrees)."""
    step = np.diff(surface, axis=axis)
    step *= np.float32(0.5 / cell_size)
    step[np.abs(step) > 0.9] = 0.0
    # The mean of the steps to both neighbours, so that a mirrored surface has the mirrored slope.
    rise = np.zeros_like(surface)
    before, after = [slice(None)] * 2, [slice(None)] * 2
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    rise[tuple(before)] = step
    rise[tuple(after)] += step
    return rise


def _shift(field: np.ndarray, down: int, right: int) -> np.ndarray:
    """field[i + down, j + right] at [i, j]; far below ground if that lies outside the raster."""
    shifted = np.full_like(field, -1e3)
    rows, columns = field.shape
    if abs(down) < rows and abs(right) < columns:
        shifted[max(0, -down) : rows - max(0, down), max(0, -right) : columns - max(0, right)] = (
            field[max(0, down) : rows - max(0, -down), max(0, right) : columns - max(0, -right)]
        )
    return shifted


def find_cells(scene: Scene, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Flat indices into the raster of points given in metres from its centre, in its own axes.

    Points outside the raster map to the nearest cell at its edge.
    """
    n = scene.height.shape[0]
    scale = np.float32(1.0 / scene.cell_size)
    centre = np.float32(0.5 * n)
    column = (right * scale + centre).astype(np.int32)
    row = (centre - up * scale).astype(np.int32)
    np.clip(column, 0, n - 1, out=column)
    np.clip(row, 0, n - 1, out=row)
    row *= n
    row += column
    return row


_RASTERS = (
    "height",
    "material",
    "building",
    "albedo",
    "crown_bottom",
    "crown_top",
    "crown_albedo",
)


def rotate_scene(scene: Scene, quarter_turns: int) -> Scene:
    """The scene, sun included, rotated anticlockwise by quarter turns, as seen from above."""
    k = quarter_turns % 4
    angle = k * math.pi / 2
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[k]
    x, y = scene.buildings.centre[:, 0], scene.buildings.centre[:, 1]
    buildings = dataclasses.replace(
        scene.buildings,
        centre=np.stack([cos * x - sin * y, sin * x + cos * y], axis=1),
        angle=scene.buildings.angle + angle,
    )
    rasters = {name: np.rot90(getattr(scene, name), k).copy() for name in _RASTERS}
    return dataclasses.replace(
        scene, buildings=buildings, sun_bearing=scene.sun_bearing - angle, **rasters
    )


def mirror_scene(scene: Scene) -> Scene:
    """The scene, sun included, with east and west exchanged."""
    buildings = dataclasses.replace(
        scene.buildings,
        centre=scene.buildings.centre * np.array([-1.0, 1.0], np.float32),
        angle=-scene.buildings.angle,
    )
    rasters = {name: getattr(scene, name)[:, ::-1].copy() for name in _RASTERS}
    return dataclasses.replace(
        scene,
        buildings=buildings,
        sun_bearing=-scene.sun_bearing,
        heading=-scene.heading,
        **rasters,
    )


def empty_scene(
    half_extent: float = 56.0, cell_size: float = 0.25, *, material: int, colour: tuple
) -> Scene:
    """Level ground of one material and colour, to be filled by hand."""
    n = round(2 * half_extent / cell_size)
    none = np.zeros((0,), np.float32)
    return Scene(
        cell_size=cell_size,
        height=np.zeros((n, n), np.float32),
        material=np.full((n, n), material, np.uint8),
        building=np.full((n, n), NO_BUILDING, np.int16),
        albedo=np.broadcast_to(np.array(colour, np.uint8), (n, n, 3)).copy(),
        crown_bottom=np.zeros((n, n), np.float32),
        crown_top=np.zeros((n, n), np.float32),
        crown_albedo=np.zeros((n, n, 3), np.uint8),
        buildings=Buildings(
            centre=np.zeros((0, 2), np.float32),
            angle=none,
            half_size=np.zeros((0, 2), np.float32),
            wall_height=none,
            roof_kind=none.astype(np.int64),
            facade=np.zeros((0, 3), np.uint8),
            storey_height=none,
            bay_width=none,
            window_share=none,
            shop=none.astype(bool),
        ),
    )
