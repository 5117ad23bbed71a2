"""Aerial images in polar coordinates, which resemble panoramas: the preprocessing of baselines.

Source: SAFA (Shi et al., 2019), with this project's convention that the centre column is north.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


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
    height, width = size
    angle = 2 * jnp.pi * (jnp.arange(width) + 0.5) / width - jnp.pi
    radius = (images.shape[1] / 2) * (height - jnp.arange(height) - 0.5)[:, None] / height
    centre = images.shape[1] / 2 - 0.5
    rows, columns = centre - radius * jnp.cos(angle), centre + radius * jnp.sin(angle)

    def sample(channel: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(channel, [rows, columns], 1, mode="nearest")

    return jax.vmap(jax.vmap(sample, -1, -1))(images)
