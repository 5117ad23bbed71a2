"""Helpers of the pixel metrics: image checks, luma and exact sums."""

import jax
import jax.numpy as jnp

from retroguide_jax.errors import UserError

_LUMA = (0.299, 0.587, 0.114)
# The sum of squared differences over a row of RGB must fit 32 bits.
_MAX_WIDTH = 2**32 // (3 * 255**2)
_MAX_HEIGHT = 2**16


def check_images(name: str, *images: jax.Array, min_size: int = 1) -> None:
    """Checks the input images of the metric `name` when it is traced.

    Args:
      name: of the metric, for the message.
      images: uint8 [B, H, W, 3], all of one shape.
      min_size: the least height and width that the formula works for, in pixels.

    Raises:
      UserError: images are too small or too large, or differ in size.
      ValueError: they are no uint8 RGB images.
    """
    shape = images[0].shape
    for image in images:
        if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != jnp.uint8:
            raise ValueError(
                f"{name} takes uint8 [B, H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        if image.shape != shape:
            raise UserError(
                f"{name} compares images of one size, got {_describe(shape)} and "
                f"{_describe(image.shape)}; resize one of them"
            )
    height, width = shape[1:3]
    if min(height, width) < min_size:
        raise UserError(
            f"{name} needs images of at least {min_size} x {min_size} pixels, "
            f"got {_describe(shape)}; use larger images or leave the metric out"
        )
    if height > _MAX_HEIGHT or width > _MAX_WIDTH:
        raise UserError(
            f"{name} takes images of at most {_MAX_HEIGHT} x {_MAX_WIDTH} pixels, "
            f"got {_describe(shape)}; resize them"
        )


def check_mask(name: str, mask: jax.Array, images: jax.Array) -> None:
    """Checks the input mask of the metric `name` when it is traced.

    Raises:
      ValueError: it is not bool [B, H, W], for images [B, H, W, 3].
    """
    if mask.dtype != jnp.bool_ or mask.shape != images.shape[:3]:
        raise ValueError(
            f"{name} takes a mask bool {list(images.shape[:3])}, "
            f"got {mask.dtype} {list(mask.shape)}"
        )


def compute_luma(images: jax.Array) -> jax.Array:
    """0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), float32 [..., H, W] in [0, 255].

    Args:
      images: uint8 [..., H, W, 3].
    """
    red, green, blue = (images[..., channel].astype(jnp.float32) for channel in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def sum_exactly(values: jax.Array) -> jax.Array:
    """Sum of each image's integers, float32 [B], rounded only at the end.

    It does not depend on the order or the device; a float32 sum of a large image would lose digits
    that a nearly perfect PSNR needs.

    Args:
      values: int32 [B, H, W, ...], not negative, each row summing up to less than 2^32.
    """
    rows = jnp.sum(values, axis=tuple(range(2, values.ndim)), dtype=jnp.uint32)
    high, low = jnp.sum(rows >> 16, axis=1), jnp.sum(rows & 0xFFFF, axis=1)
    return high.astype(jnp.float32) * 2.0**16 + low.astype(jnp.float32)


def has_enough(mask: jax.Array) -> jax.Array:
    """Whether the mask is true on at least 1 % of each image, bool [B].

    A mean over a few pixels does not represent an image.

    Args:
      mask: bool [B, H, W].
    """
    return sum_exactly(mask.astype(jnp.int32)) >= -(-mask[0].size // 100)


def _describe(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]}"
