"""Renders the ground view: an equirectangular 360-degree panorama, ray-marched on the height field.

Columns run clockwise and north lies between the two middle columns, so that a quarter turn of the
world is a roll by a quarter of the width, and east is at three quarters of the width.

Each image column is marched once. The surface's elevation angle along it is reduced to a running
maximum, in which each row looks up the first surface it sees: for w columns, h rows and k steps
O(w k + w h log k) instead of O(w h k) for one march per pixel.
"""

import dataclasses

import numpy as np

from . import materials
from .scene import GABLED, NO_BUILDING, Scene, find_cells
from .weather import Weather, paint_sky

MAX_DISTANCE = 72.0


@dataclasses.dataclass(frozen=True)
class GroundView:
    """A rendered panorama of h rows and w columns.

    Attributes:
      image: RGB uint8 [h, w, 3].
      depth: metres along the ray, float32 [h, w]; infinite in the sky.
      labels: id of the nearest material in the pixel (materials.py), uint8 [h, w].
      sky: whether at least half of the pixel is sky, bool [h, w].
    """

    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    sky: np.ndarray


def render_ground(
    scene: Scene,
    weather: Weather,
    *,
    size: tuple[int, int],
    vertical_fov: float,
    supersample: int = 2,
) -> GroundView:
    """Renders the panorama of a camera above the raster's centre.

    Args:
      scene: the scene.
      weather: the weather, which sets sky and light.
      size: rows and columns; the columns span 360 degrees.
      vertical_fov: degrees between the top and the bottom edge, centred on the horizon, <= 180.
      supersample: samples per pixel and axis, averaged.

    Returns:
      The image with its depth, labels and sky mask.
    """
    rows, columns = size[0] * supersample, size[1] * supersample
    elevation = np.radians(vertical_fov) * (0.5 - (np.arange(rows) + 0.5) / rows)
    bearing = 2.0 * np.pi * ((np.arange(columns) + 0.5) / columns - 0.5)
    rays = _march(scene, elevation, bearing)
    colour = np.empty((rows * columns, 3), np.float32)
    sky = rays.distance == np.inf
    solid = np.flatnonzero(~sky)
    colour[solid] = _shade(scene, weather, rays, solid, elevation, bearing)
    empty = np.flatnonzero(sky)
    colour[empty] = paint_sky(
        weather,
        elevation.astype(np.float32)[empty // columns],
        bearing.astype(np.float32)[empty % columns],
        (scene.sun_bearing, scene.sun_elevation),
    )
    return _average(colour, _label(scene, rays), rays, elevation, size, supersample)


@dataclasses.dataclass
class _Rays:
    """End points of the rays, as flat arrays over the pixels, row by row.

    `cell` is the raster cell (flat index), `before` the cell one step nearer to the camera,
    `distance` the horizontal distance in metres (infinite: sky), `nearest` the distance known to be
    free, `height` metres above the road, `is_side` whether a vertical face was hit, `is_crown`
    whether a tree crown was hit.
    """

    cell: np.ndarray
    before: np.ndarray
    distance: np.ndarray
    nearest: np.ndarray
    height: np.ndarray
    is_side: np.ndarray
    is_crown: np.ndarray


def _steps(cell_size: float, columns: int) -> np.ndarray:
    """Sampling distances in metres: one cell apart nearby, one pixel's width apart far away."""
    distances = [0.6]
    growth = 2.0 * np.pi / columns * 0.6
    while distances[-1] < MAX_DISTANCE:
        distances.append(distances[-1] + max(0.8 * cell_size, growth * distances[-1]))
    return np.array(distances, np.float32)


def _march(scene: Scene, elevation: np.ndarray, bearing: np.ndarray) -> _Rays:
    rows, columns = len(elevation), len(bearing)
    distances = _steps(scene.cell_size, columns)
    num_steps = len(distances)
    right, up = _directions(bearing, scene.heading)
    cells = find_cells(scene, right[:, None] * distances, up[:, None] * distances)
    heights = scene.height.reshape(-1)[cells]
    # Per step: the number of rows, counted from the bottom, whose ray has hit the surface so far.
    step_angle = elevation[0] - elevation[1]
    scale = np.float32(1.0 / step_angle)
    bottom = np.float32(elevation[-1])
    angle = np.arctan((heights - np.float32(scene.camera_height)) / distances)
    covered = np.floor((angle - bottom) * scale + 1.0).astype(np.int32)
    np.clip(covered, 0, rows, out=covered)
    np.maximum.accumulate(covered, axis=1, out=covered)
    # One sorted array for all columns: each column's counts are offset above the previous column's.
    lift = np.arange(columns, dtype=np.int32) * (rows + 1)
    queries = np.arange(rows - 1, -1, -1, dtype=np.int32)[:, None] + lift
    found = np.searchsorted((covered + lift[:, None]).reshape(-1), queries.T, side="right").T
    first = found - np.arange(columns) * num_steps
    is_sky = first >= num_steps
    step = np.minimum(first, num_steps - 1).reshape(-1)
    column = np.tile(np.arange(columns), rows)
    tangent = np.repeat(np.tan(elevation).astype(np.float32), columns)

    at = column * num_steps + step
    cell = cells.reshape(-1)[at]
    before = cells.reshape(-1)[np.where(step > 0, at - 1, at)]
    surface = heights.reshape(-1)[at]
    far = distances[step]
    near = np.where(step > 0, distances[step - 1], np.float32(0.0))
    # Intersection of descending rays with level surfaces; all other rays hit a side of the cell.
    fall = surface - np.float32(scene.camera_height)
    exact = np.divide(fall, tangent, out=np.full_like(fall, -1.0), where=tangent != 0.0)
    is_side = (fall >= 0.0) | (exact < near) | (exact > far)
    distance = np.where(is_side, far, exact)
    level = np.flatnonzero(~is_side)
    cell[level] = find_cells(
        scene,
        right[column[level]] * distance[level],
        up[column[level]] * distance[level],
    )
    distance[is_sky.reshape(-1)] = np.inf
    rays = _Rays(
        cell=cell,
        before=before,
        distance=distance,
        nearest=near,
        height=np.float32(scene.camera_height) + tangent * distance,
        is_side=is_side,
        is_crown=np.zeros(rows * columns, bool),
    )
    _meet_walls(scene, rays, right, up, tangent)
    _meet_crowns(scene, rays, cells, distances, elevation, tangent)
    return rays


def _directions(bearing: np.ndarray, heading: float) -> tuple[np.ndarray, np.ndarray]:
    relative = bearing - heading
    return np.sin(relative).astype(np.float32), np.cos(relative).astype(np.float32)


def _to_building_frame(scene: Scene, building: np.ndarray, x: np.ndarray, y: np.ndarray):
    """Rotates vectors from the raster's axes into the buildings' own axes."""
    angle = scene.buildings.angle.astype(np.float32)
    cos, sin = np.cos(angle)[building], np.sin(angle)[building]
    return x * cos + y * sin, y * cos - x * sin


def _meet_walls(scene: Scene, rays: _Rays, right, up, tangent) -> None:
    """Moves hits on buildings from the sampled step to the facade's plane."""
    index = _side_hits_on_buildings(scene, rays)
    entry, _ = _enter_buildings(scene, rays.cell[index], right, up, index % len(right))
    entry = np.clip(entry, rays.nearest[index], rays.distance[index])
    # Hits above the wall are on a roof, whose slope was hit at the step itself.
    height = np.float32(scene.camera_height) + tangent[index] * entry
    on_wall = height <= _gable_or_wall_height(scene, rays.cell[index])
    rays.distance[index[on_wall]] = entry[on_wall]
    rays.height[index[on_wall]] = height[on_wall]


def _gable_or_wall_height(scene: Scene, cell: np.ndarray) -> np.ndarray:
    building = scene.building.reshape(-1)[cell]
    buildings = scene.buildings
    wall = buildings.wall_height[building]
    gabled = buildings.roof_kind[building] == GABLED
    return np.where(gabled, np.maximum(wall, scene.height.reshape(-1)[cell]), wall)


def _side_hits_on_buildings(scene: Scene, rays: _Rays) -> np.ndarray:
    hit = rays.is_side & (rays.distance < np.inf) & ~rays.is_crown
    index = np.flatnonzero(hit)
    return index[scene.building.reshape(-1)[rays.cell[index]] != NO_BUILDING]


def _enter_buildings(scene: Scene, cell, right, up, column):
    """Intersects rays from the centre with their building's rectangle.

    Returns:
      Entry distance in metres, and whether the face is one across the building's own x axis.
    """
    buildings = scene.buildings
    building = scene.building.reshape(-1)[cell]
    direction = _to_building_frame(scene, building, right[column], up[column])
    centre = buildings.centre.astype(np.float32)[building]
    origin = _to_building_frame(scene, building, -centre[:, 0], -centre[:, 1])
    half = buildings.half_size.astype(np.float32)[building]
    # Slab method: a ray enters a box at the latest of the entries into its slabs.
    entries = []
    for axis in (0, 1):
        safe = np.where(np.abs(direction[axis]) < 1e-6, np.float32(1e-6), direction[axis])
        entries.append((-np.sign(safe) * half[:, axis] - origin[axis]) / safe)
    return np.maximum(entries[0], entries[1]), entries[0] > entries[1]


def _meet_crowns(scene: Scene, rays: _Rays, cells, distances, elevation, tangent) -> None:
    """Replaces hits behind the floating crowns by hits on the crowns, far ones first."""
    rows, columns = len(elevation), len(cells)
    inside = scene.has_crown.reshape(-1)[cells.T]
    index = np.flatnonzero(inside.reshape(-1)[::-1])
    if len(index) == 0:
        return
    index = inside.size - 1 - index
    step, column = index // columns, index % columns
    cell = cells[column, step]
    distance = distances[step]
    eye = np.float32(scene.camera_height)
    top = np.arctan((scene.crown_top.reshape(-1)[cell] - eye) / distance)
    bottom = np.arctan((scene.crown_bottom.reshape(-1)[cell] - eye) / distance)
    scale = 1.0 / (elevation[0] - elevation[1])
    first = np.clip(np.ceil((elevation[0] - top) * scale), 0, rows).astype(np.int32)
    last = np.clip(np.ceil((elevation[0] - bottom) * scale), 0, rows).astype(np.int32)
    count = np.maximum(last - first, 0)
    start = np.cumsum(count) - count
    source = np.repeat(np.arange(len(index)), count)
    row = np.arange(len(source)) - start[source] + first[source]
    pixel = row * columns + column[source]
    seen = distance[source] < rays.distance[pixel]
    pixel, source = pixel[seen], source[seen]
    # The last of several writes to one pixel, hence the nearest crown, remains.
    rays.distance[pixel] = distance[source]
    rays.cell[pixel] = cell[source]
    rays.is_crown[pixel] = True
    rays.height[pixel] = eye + tangent[pixel] * distance[source]


def _shade(scene, weather, rays, index, elevation, bearing):
    """Colours in [0, 1] of the pixels `index`, none of which is sky."""
    cell = rays.cell[index]
    crown = rays.is_crown[index]
    side = rays.is_side[index] & ~crown
    colour = scene.albedo.reshape(-1, 3)[cell].astype(np.float32)
    sun = scene.sunlight.reshape(-1)[cell]
    # Beneath a crown, `sunlight` is that of the crown itself.
    sun[~crown & scene.has_crown.reshape(-1)[cell]] = 0.15
    ambient = np.full(len(index), 0.55, np.float32)

    walls = np.flatnonzero(side & (scene.building.reshape(-1)[cell] != NO_BUILDING))
    colour[walls], sun[walls] = _shade_buildings(
        scene, weather, rays, index[walls], bearing, colour[walls], sun[walls]
    )
    things = np.flatnonzero(side & (scene.building.reshape(-1)[cell] == NO_BUILDING))
    _shade_things(scene, rays, index, cell, things, colour, sun)
    crowns = np.flatnonzero(crown)
    _shade_crowns(scene, rays, index, cell, crowns, colour, sun, ambient)

    direct = np.float32(0.55 * weather.direct)
    # Without sun, the sky alone gives nearly as much light, but with less contrast.
    fill = np.float32(1.0 + 0.55 * (1.0 - weather.direct))
    light = ambient * fill + sun * direct
    colour *= (light * np.float32(1.0 / 255.0))[:, None]
    colour *= np.array(weather.light, np.float32)
    haze = 1.0 - np.exp(-rays.distance[index] / np.float32(weather.haze_distance))
    colour += (np.array(weather.horizon, np.float32) - colour) * haze[:, None]
    return colour


def _shade_buildings(scene, weather, rays, index, bearing, roof, roof_sun):
    """Colour and direct sun of pixels that show the side of a building."""
    buildings = scene.buildings
    cell = rays.cell[index]
    building = scene.building.reshape(-1)[cell]
    columns = len(bearing)
    right, up = _directions(bearing, scene.heading)
    column = index % columns
    entry, is_end = _enter_buildings(scene, cell, right, up, column)
    distance, z = rays.distance[index], rays.height[index]
    wall_height = buildings.wall_height[building].astype(np.float32)
    half = buildings.half_size.astype(np.float32)[building]
    centre = buildings.centre.astype(np.float32)[building]
    x, y = _to_building_frame(
        scene,
        building,
        right[column] * distance - centre[:, 0],
        up[column] * distance - centre[:, 1],
    )
    along = np.where(is_end, y + half[:, 1], x + half[:, 0])
    length = 2.0 * np.where(is_end, half[:, 1], half[:, 0])

    long_axis_is_x = half[:, 0] >= half[:, 1]
    at_wall = distance <= entry + np.float32(1.5 * scene.cell_size)
    gable = (buildings.roof_kind[building] == GABLED) & (is_end == long_axis_is_x) & at_wall
    is_wall = (z <= wall_height) | gable

    facade = _paint_facade(scene, weather, building, along, length, z, is_end)
    # Light relative to level ground: outward normal times sun direction, over tan(sun elevation).
    to_sun = scene.sun_bearing - scene.heading
    sun_x, sun_y = _to_building_frame(
        scene,
        building,
        np.float32(np.sin(to_sun)),  # pyright: ignore[reportArgumentType]
        np.float32(np.cos(to_sun)),  # pyright: ignore[reportArgumentType]
    )
    facing = np.where(is_end, -_sign_of(right, up, scene, building, column, 0) * sun_x,
                      -_sign_of(right, up, scene, building, column, 1) * sun_y)  # fmt: skip
    lit = z > scene.shadow_height.reshape(-1)[rays.before[index]]
    wall_sun = np.clip(facing, 0.0, 1.0) * lit * np.float32(1.0 / np.tan(scene.sun_elevation))
    colour = np.where(is_wall[:, None], facade, roof)
    return colour, np.where(is_wall, wall_sun, roof_sun)


def _sign_of(right, up, scene, building, column, axis):
    return np.sign(_to_building_frame(scene, building, right[column], up[column])[axis])


def _paint_facade(scene, weather, building, along, length, z, is_end):
    """Colours of plaster, windows, shop fronts and cornice, as RGB in [0, 255], [n, 3]."""
    buildings = scene.buildings
    colour = buildings.facade[building].astype(np.float32)
    wall_height = buildings.wall_height[building].astype(np.float32)
    storey = buildings.storey_height[building].astype(np.float32)
    bays = np.maximum(np.round(length / buildings.bay_width[building]), 1.0).astype(np.float32)
    bay = along / length * bays
    in_bay = np.abs(bay - np.floor(bay) - 0.5)
    floor = np.floor(z / storey)
    in_storey = z / storey - floor
    half_window = 0.5 * buildings.window_share[building].astype(np.float32)
    shop = buildings.shop[building] & (floor < 1)
    window = (in_bay < half_window) & (in_storey > 0.28) & (in_storey < 0.80)
    window &= (z < wall_height - 0.25) & ~shop & (length > 3.0)
    door = (floor < 1) & (np.floor(bay) == np.floor(bays / 2)) & (in_bay < 0.3) & (in_storey < 0.7)
    glazing = shop & (in_storey > 0.12) & (in_storey < 0.68) & (in_bay < 0.43)
    # Each pane mixes a dark room with the sky, by a pseudo-random share of its own.
    chance = np.sin(building * 12.9 + np.floor(bay) * 78.2 + floor * 37.7 + is_end * 5.1) * 43758.5
    chance = (chance - np.floor(chance)).astype(np.float32)
    pane = np.array([52.0, 62.0, 74.0], np.float32)
    pane = pane + (255.0 * np.array(weather.zenith, np.float32) - pane) * (0.4 * chance**2)[:, None]
    glass = window | glazing
    colour[glass] = pane[glass]
    colour[door & ~shop] = np.array([74.0, 58.0, 48.0], np.float32)
    sign = shop & (in_storey >= 0.72) & (in_storey < 0.95)
    colour[sign] *= np.float32(0.62)
    cornice = (z >= wall_height - 0.3) | ((in_storey < 0.07) & (floor >= 1))
    colour[cornice & ~glass] *= np.float32(1.08)
    colour[z < 0.5] *= np.float32(0.82)
    return colour


def _shade_things(scene, rays, index, cell, chosen, colour, sun) -> None:
    """Shades the sides of cars, kerbs, hedges and trunks."""
    cells = cell[chosen]
    z = rays.height[index[chosen]]
    material = scene.material.reshape(-1)[cells]
    sun[chosen] *= 0.55
    car = material == materials.CAR
    glass = car & (z > 0.85) & (z < 1.3)
    wheel = car & (z < 0.4)
    colour[chosen[glass]] = (48.0, 56.0, 64.0)
    colour[chosen[wheel]] = (34.0, 34.0, 36.0)
    trunk = material == materials.TREE
    colour[chosen[trunk]] = (92.0, 74.0, 58.0)


def _shade_crowns(scene, rays, index, cell, chosen, colour, sun, ambient) -> None:
    cells = cell[chosen]
    z = rays.height[index[chosen]]
    bottom = scene.crown_bottom.reshape(-1)[cells]
    top = scene.crown_top.reshape(-1)[cells]
    share = np.clip((z - bottom) / np.maximum(top - bottom, 0.1), 0.0, 1.0)
    albedo = scene.crown_albedo.reshape(-1, 3)[cells].astype(np.float32)
    # Clumps of leaves: bands over the height, with a phase from the cell's mottled colour.
    clumps = 1.0 + 0.16 * np.sin(2.6 * z + 0.35 * albedo[:, 1])
    colour[chosen] = albedo * clumps[:, None]
    ambient[chosen] *= 0.55 + 0.45 * share
    sun[chosen] *= 0.25 + 0.65 * share


def _label(scene: Scene, rays: _Rays) -> np.ndarray:
    """Material id of every sample, uint8, flat."""
    labels = scene.material.reshape(-1)[rays.cell]
    labels[rays.is_crown] = materials.TREE
    labels[rays.distance == np.inf] = materials.SKY
    return labels


def _average(colour, labels, rays, elevation, size, supersample) -> GroundView:
    """Reduces the samples of each pixel: mean colour, nearest depth and its label, sky majority."""
    rows, columns = size
    blocks = (rows, supersample, columns, supersample)
    image = colour.reshape(*blocks, 3).mean(axis=(1, 3))
    image = (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    slant = 1.0 / np.cos(elevation).astype(np.float32)
    depth = rays.distance.reshape(rows * supersample, -1) * slant[:, None]
    depth = depth.reshape(blocks).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    labels = labels.reshape(blocks).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    sky = 2 * np.isinf(depth).sum(axis=-1) >= supersample**2
    nearest = depth.argmin(axis=-1)[..., None]
    depth = np.take_along_axis(depth, nearest, axis=-1)[..., 0]
    labels = np.take_along_axis(labels, nearest, axis=-1)[..., 0]
    depth[sky] = np.inf
    labels[sky] = materials.SKY
    return GroundView(image=image, depth=depth, labels=labels, sky=sky)
