"""Which places of an aerial image and of a panorama lie in the same direction from the camera.

An aerial image in polar coordinates resembles a panorama: the preprocessing of baselines. Source:
SAFA (Shi et al., 2019), with this project's convention that the centre column is north.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def to_polar(images: jax.Array, size: Sequence[int]) -> jax.Array:
    """Samples aerial images, or maps of their features, around their centre, bilinearly.

    Column w of W looks in direction 360 (w + 0.5) / W - 180 degrees, clockwise from north, which is
    up in the aerial image. Row h of H lies at (H - h - 0.5) / H of the distance from the centre to
    the nearest edge, so that the bottom row is the ground at the camera.

    Args:
      images: [B, S, S, C], north up.
      size: (H, W) of the panorama.

    Returns:
      [B, H, W, C].
    """
    return _sample(images, _locate(images.shape[1], size))


def from_polar(maps: jax.Array, side: int) -> jax.Array:
    """Samples maps whose columns are directions at the places of an aerial image, bilinearly.

    Columns are those of `to_polar`, and round a full circle. The middle of row h of H lies at
    (H - h - 0.5) / H of the distance from the camera, in the middle of the aerial image, to its
    corners.

    Args:
      maps: [B, H, W, C].
      side: S, in pixels.

    Returns:
      [B, S, S, C], north up.
    """
    height, width = maps.shape[1:3]
    turn, radius = _look_around((side, side))
    rows = height * (1 - radius * 2**0.5 / side) - 0.5
    columns = turn * width + 0.5  # one more than in `maps`, for the column in front
    maps = jnp.concatenate([maps[:, :, -1:], maps, maps[:, :, :1]], 2)
    return _sample(maps, (rows, columns))


def bearing_weights(columns: int, size: Sequence[int]) -> np.ndarray:
    """Weights of a panorama's columns in the direction of each place of an aerial image.

    Args:
      columns: of the panorama; the directions between two of their centres are interpolated.
      size: (H, W) of the aerial image, north up, the camera in its middle.

    Returns:
      [H, W, columns], of sum 1 over the columns.
    """
    turn, _ = _look_around(size)
    far = abs((turn * columns - 0.5)[..., None] - np.arange(columns))
    return np.maximum(0, 1 - np.minimum(far, columns - far))


def _look_around(size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Direction, 0 to 1 as in a panorama, and distance in pixels of an aerial's places, [H, W]."""
    rows, columns = (np.arange(length) - (length - 1) / 2 for length in size)
    turn = np.arctan2(columns[None], -rows[:, None]) / (2 * np.pi) + 0.5
    return turn, np.hypot(rows[:, None], columns[None])


def _sample(maps: jax.Array, places: Sequence[np.ndarray]) -> jax.Array:
    """Maps [B, h, w, C] at rows and columns [H, W], bilinearly: [B, H, W, C]."""

    def sample(channel: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(channel, list(places), 1, mode="nearest")

    return jax.vmap(jax.vmap(sample, -1, -1))(maps)


def _locate(side: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in the aerial image, [H, W] each; pixel i has its centre at i."""
    height, width = size
    angle = 2 * np.pi * (np.arange(width) + 0.5) / width - np.pi
    radius = (side / 2) * (height - np.arange(height) - 0.5)[:, None] / height
    centre = side / 2 - 0.5
    return centre - radius * np.cos(angle), centre + radius * np.sin(angle)
