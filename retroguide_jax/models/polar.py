"""Aerial images in polar coordinates, which resemble panoramas: the preprocessing of baselines.

Source: SAFA (Shi et al., 2019), with this project's convention that the centre column is north.
"""

from collections.abc import Sequence

import jax
import numpy as np


def to_polar(images: jax.Array, size: Sequence[int]) -> jax.Array:
    """Samples aerial images around their centre, bilinearly.

    Column w of W looks in direction 360 (w + 0.5) / W - 180 degrees, clockwise from north, which is
    up in the aerial image. Row h of H lies at (H - h - 0.5) / H of the distance from the centre to
    the nearest edge, so that the bottom row is the ground at the camera.

    Args:
      images: [B, S, S, 3], north up.
      size: (H, W) of the panorama.

    Returns:
      [B, H, W, 3].
    """
    places = list(_locate(images.shape[1], size))

    def sample(channel: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(channel, places, 1, mode="nearest")

    return jax.vmap(jax.vmap(sample, -1, -1))(images)


def polar_weights(side: int, size: Sequence[int]) -> np.ndarray:
    """`to_polar` of maps of few positions as one product: its weights, [H, W, side, side]."""
    places = (np.clip(place, 0, side - 1) for place in _locate(side, size))
    rows, columns = (np.maximum(0, 1 - abs(x[..., None] - np.arange(side))) for x in places)
    return np.einsum("hwi,hwj->hwij", rows, columns)


def _locate(side: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in the aerial image, [H, W] each; pixel i has its centre at i."""
    height, width = size
    angle = 2 * np.pi * (np.arange(width) + 0.5) / width - np.pi
    radius = (side / 2) * (height - np.arange(height) - 0.5)[:, None] / height
    centre = side / 2 - 0.5
    return centre - radius * np.cos(angle), centre + radius * np.sin(angle)
