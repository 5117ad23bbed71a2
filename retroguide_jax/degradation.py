"""Degrades images as generated images are: a little soft, noisy, off in colour and displaced.

Networks that score generated images are trained on degraded real ones. A network trained only on
sharp renders may take such faults for another place, and its score would measure style.
"""

import jax
import jax.numpy as jnp

MAX_SHIFT = 2  # pixels, in each direction


def degrade(key: jax.Array, images: jax.Array, circular: bool = False) -> jax.Array:
    """`degrade_colours`, then shifts each image by up to `MAX_SHIFT` pixels in height and width.

    Args:
      key: random key.
      images: [B, H, W, 3] in [-1, 1].
      circular: columns wrap around; otherwise the edge repeats, as rows always do.

    Returns:
      The same shape, in [-1, 1].
    """
    shift_key, colour_key = jax.random.split(key)
    images = degrade_colours(colour_key, images)
    batch, height, width, _ = images.shape
    shifts = jax.random.randint(shift_key, (2, batch, 1), -MAX_SHIFT, MAX_SHIFT + 1)
    rows = jnp.clip(jnp.arange(height) + shifts[0], 0, height - 1)
    columns = jnp.arange(width) + shifts[1]
    columns = columns % width if circular else jnp.clip(columns, 0, width - 1)
    images = jnp.take_along_axis(images, rows[:, :, None, None], 1)
    return jnp.take_along_axis(images, columns[:, None, :, None], 2)


def degrade_colours(key: jax.Array, images: jax.Array) -> jax.Array:
    """Changes the colours of each image at random and independently; shifts nothing.

    A mean over 3 x 3 pixels is blended in by 0 to 1; contrast is scaled by 0.7 to 1.3, and each
    channel by a further 0.85 to 1.15, about the image's mean; brightness is shifted by up to 0.2;
    Gaussian noise of standard deviation 0 to 0.1 is added.

    Args:
      key: random key.
      images: [B, H, W, 3] in [-1, 1].

    Returns:
      The same shape, clipped to [-1, 1].
    """
    keys = jax.random.split(key, 6)
    one, channel = (images.shape[0], 1, 1, 1), (images.shape[0], 1, 1, 3)
    softness = jax.random.uniform(keys[0], one)
    images = images + softness * (_blur(images) - images)
    gain = jax.random.uniform(keys[1], one, minval=0.7, maxval=1.3)
    gain *= jax.random.uniform(keys[2], channel, minval=0.85, maxval=1.15)
    mean = images.mean((1, 2, 3), keepdims=True)
    images = mean + gain * (images - mean)
    images += jax.random.uniform(keys[3], one, minval=-0.2, maxval=0.2)
    noise = jax.random.uniform(keys[4], one, maxval=0.1)
    return jnp.clip(images + noise * jax.random.normal(keys[5], images.shape), -1.0, 1.0)


def _blur(images: jax.Array) -> jax.Array:
    """Mean over 3 x 3 pixels; columns wrap around, the first and last rows repeat."""
    height = images.shape[1]
    images = sum(jnp.roll(images, shift, axis=2) for shift in (-1, 0, 1)) / 3.0  # pyright: ignore[reportAssignmentType]
    padded = jnp.pad(images, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    return sum(padded[:, first : first + height] for first in range(3)) / 3.0  # pyright: ignore[reportReturnType]
