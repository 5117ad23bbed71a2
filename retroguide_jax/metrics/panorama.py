"""Metrics for panoramas only, whose left and right border must match."""

import jax
import jax.numpy as jnp

from retroguide_jax.metrics.pixels import check_images, sum_exactly


@jax.jit
def seam_error(images: jax.Array) -> jax.Array:
    """Contrast at the wrap-around, float32 [B]; 1: as between neighbouring columns. Ours.

    Mean |first column - last column| over the mean |difference| of the W - 1 pairs of neighbouring
    columns, both over all rows and channels. NaN for an image whose columns are all equal.

    Args:
      images: uint8 [B, H, W, 3], panoramas of the full circle.

    Raises:
      UserError: the images are smaller than 2 x 2 or too large.
    """
    check_images("seam_error", images, min_size=2)
    values = images.astype(jnp.int32)
    seam = sum_exactly(jnp.abs(values[:, :, :1] - values[:, :, -1:]))
    steps = sum_exactly(jnp.abs(values[:, :, 1:] - values[:, :, :-1]))
    return seam * (images.shape[2] - 1) / steps
