"""Augmentation of the discriminator's images, real and generated.

DiffAugment (Zhao et al., 2020), restricted to changes that preserve a view's geometry: colour, a
cut-out, and for panoramas a roll. All of them are differentiable, so that G's gradient passes
through. A source's real and generated image get the same change, so that D cannot use it to
distinguish them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from retroguide_jax.errors import UserError

_BRIGHTNESS, _SATURATION, _CONTRAST = 0.5, 1.0, 0.5  # largest changes at strength 1
_CUTOUT = 0.5  # largest side of the hole, as a share of the image's, at strength 1


def make_augmentation(
    key: jax.Array, num: int, strength: float, roll: bool
) -> Callable[[jax.Array], jax.Array]:
    """Draws one change per row; the returned function applies them to any number of batches.

    Args:
      key: random key of this update.
      num: number of rows, n.
      strength: 0 (nothing) .. 1 (as DiffAugment).
      roll: whether columns wrap around, so that they may be shifted. D's condition then has another
        heading than the image: this does not matter to unconditional logits, and conditional ones
        require less.

    Returns:
      [n, H, W, C] in [-1, 1] to the same shape; colours may leave the range, as in DiffAugment.

    Raises:
      UserError: a strength out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise UserError(f"config.losses.augment={strength}: give 0 (off) to 1")
    if strength == 0.0:
        return lambda images: images
    keys = jax.random.split(key, num)
    change = functools.partial(_change, strength=strength, roll=roll)
    return lambda images: jax.vmap(change)(keys, images)


def _change(key: jax.Array, image: jax.Array, strength: float, roll: bool) -> jax.Array:
    height, width, _ = image.shape
    draw = jax.random.uniform(key, (7,))
    signed = strength * (2.0 * draw[:3] - 1.0)
    image = image + _BRIGHTNESS * signed[0]
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * (1.0 + _SATURATION * signed[1])
    mean = image.mean()
    image = mean + (image - mean) * (1.0 + _CONTRAST * signed[2])
    size = _CUTOUT * strength * draw[3]
    rows = _is_inside(jnp.arange(height) / height, draw[4], size)
    columns = _is_inside(jnp.arange(width) / width, draw[5], size)
    image = jnp.where((rows[:, None] & columns)[..., None], 0.0, image)
    if roll:
        # Shift by an integer number of columns, up to half a turn at strength 1.
        shift = jnp.round(strength * (draw[6] - 0.5) * width).astype(jnp.int32)
        # A product: per row, TPUs gather columns, and above all scatter their gradient, slowly.
        turned = jax.nn.one_hot((jnp.arange(width) - shift) % width, width, dtype=image.dtype)
        exact = jax.lax.Precision.HIGHEST
        image = jnp.einsum("wv,hvc->hwc", turned, image, precision=exact)
    return image


def _is_inside(positions: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    return (positions - start) % 1.0 < size
