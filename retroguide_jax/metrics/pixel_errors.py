"""PSNR and RMSE: the variants found in the literature, one value per image."""

import jax
import jax.numpy as jnp

from retroguide_jax.metrics.pixels import check_images, check_mask, has_enough, sum_exactly


@jax.jit
def psnr(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB, float32 [B]: -10 log10(mean squared error on [0, 1]).

    The true PSNR: tf.image.psnr, scikit-image, Shi et al., Sat2Density, ControlS2S, and on [-1, 1]
    with peak 2 Sat3DGen. Infinite for identical images.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("psnr", generated, target)
    return 10 * jnp.log10(255.0**2 / _compute_mse(generated, target))


@jax.jit
def psnr_legacy(generated: jax.Array, target: jax.Array) -> jax.Array:
    """PSNR of the X-Fork Lua script in dB, float32 [B]: 10 log10(255^2 / (128^2 MSE)).

    Evaluation/my_image_error_measures.lua of Regmi and Borji, "Cross-view image synthesis using
    conditional GANs", 2018, shared by SelectionGAN, CrossMLP and PanoGAN. The script was written
    for images on [-1, 1] but reads them on [0, 1], so it lies 20 log10(255 / 128) = 5.986 dB above
    `psnr`. 128^2 MSE is at least 1e-4: 88.13 dB at the most.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("psnr_legacy", generated, target)
    error = (128 / 255) ** 2 * _compute_mse(generated, target)
    return 10 * jnp.log10(255.0**2 / jnp.maximum(error, 1e-4))


@jax.jit
def rmse(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Root of the mean squared error on 0..255, float32 [B]: Shi et al., Sat2Density.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("rmse", generated, target)
    return jnp.sqrt(_compute_mse(generated, target))


@jax.jit
def psnr_nosky(generated: jax.Array, target: jax.Array, sky_mask: jax.Array) -> jax.Array:
    """`psnr` over the pixels that are not sky, in dB, float32 [B]; ours.

    The sky is left out because an aerial image does not determine it. NaN where less than 1 % of
    the image is not sky; infinite where the rest is identical.

    Args:
      generated, target: uint8 [B, H, W, 3].
      sky_mask: bool [B, H, W], true = sky.

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("psnr_nosky", generated, target)
    check_mask("psnr_nosky", sky_mask, generated)
    rest = ~sky_mask
    squared = jnp.where(rest[..., None], _square_differences(generated, target), 0)
    num_values = 3 * sum_exactly(rest.astype(jnp.int32))
    score = 10 * jnp.log10(255.0**2 / (sum_exactly(squared) / num_values))
    return jnp.where(has_enough(rest), score, jnp.nan)


def _compute_mse(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error on 0..255, float32 [B]."""
    return sum_exactly(_square_differences(generated, target)) / generated[0].size


def _square_differences(generated: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.square(generated.astype(jnp.int32) - target.astype(jnp.int32))
