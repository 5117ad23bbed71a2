"""Renders the aerial view: orthographic, north up, with one fixed sun."""

import numpy as np

from .scene import Scene, find_cells

# Shares of diffuse and direct light; the light on level, sunlit ground is their sum.
_AMBIENT = 0.50
_DIRECT = 0.55


def render_aerial(
    scene: Scene, *, size: int, ground_extent: float = 64.0, supersample: int | None = None
) -> np.ndarray:
    """Renders the scene from straight above, with the camera's foot point in the centre.

    Args:
      scene: the scene.
      size: pixels per side.
      ground_extent: metres per side.
      supersample: samples per pixel and axis; by default as many as the raster resolves.

    Returns:
      RGB uint8 [size, size, 3]; row 0 is north, column 0 west.
    """
    if supersample is None:
        supersample = max(2, round(ground_extent / size / scene.cell_size))
    samples = size * supersample
    offset = ((np.arange(samples) + 0.5) / samples - 0.5) * ground_extent
    east = offset.astype(np.float32)[None, :]
    north = -offset.astype(np.float32)[:, None]
    cos, sin = np.float32(np.cos(scene.heading)), np.float32(np.sin(scene.heading))
    cell = find_cells(scene, east * cos - north * sin, east * sin + north * cos).reshape(-1)
    albedo = scene.albedo.reshape(-1, 3)[cell]
    crowns = np.flatnonzero(scene.has_crown.reshape(-1)[cell])
    albedo[crowns] = scene.crown_albedo.reshape(-1, 3)[cell[crowns]]
    light = scene.sunlight.reshape(-1)[cell] * np.float32(_DIRECT) + np.float32(_AMBIENT)
    # In units of 1/128, so that colour times light fits 16 bits up to twice level ground's light.
    light = (light * 128.0).astype(np.uint8)
    image = np.empty((size, size, 3), np.uint8)
    for channel in range(3):  # Per channel: NumPy is slow over an innermost axis of three.
        lit = np.multiply(albedo[:, channel], light, dtype=np.uint16)
        lit >>= 7
        np.minimum(lit, 255, out=lit)
        rows = lit.reshape(size, supersample, samples).sum(axis=1, dtype=np.uint32)
        total = rows.reshape(size, size, supersample).sum(axis=2)
        image[..., channel] = (total + supersample**2 // 2) // supersample**2
    return image
