"""Full-reference image quality and sharpness, one figure an image.

Protocol: images are scored as they are written to PNG. Every function takes uint8 [B, H, W, 3] and
works on value / 255, in [0, 1], in float32; nothing is resized or cropped.
"""

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError

_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@jax.jit
def psnr(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB, float32 [B]: -10 log10(mean squared error on [0, 1]).

    The true PSNR (tf.image.psnr, scikit-image, Sat2Density), not the legacy variant of the
    X-Fork scripts, which lies 5.986 dB higher. Infinite for identical images.

    Args:
        generated, target: uint8 [B, H, W, 3].
    """
    # Subtracted before scaling: equal pixels then differ by exactly nothing.
    difference = (generated.astype(jnp.float32) - target.astype(jnp.float32)) / 255.0
    error = jnp.mean(jnp.square(difference), axis=(1, 2, 3))
    return -10.0 * jnp.log10(error)


@jax.jit
def ssim_rgb(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Structural similarity, float32 [B], at most 1.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004:
    Gaussian window 11 x 11, sigma 1.5, K = (0.01, 0.03), data range 1, only positions where the
    whole window fits, mean over positions and RGB channels. The same as tf.image.ssim and
    pytorch_msssim.ssim; scikit-image's default differs.

    Args:
        generated, target: uint8 [B, H, W, 3].

    Raises:
        UserError: an image is lower or narrower than the window.
    """
    batch, height, width, channels = generated.shape
    if min(height, width) < _SSIM_WINDOW:
        raise UserError(
            f"ssim_rgb needs images of at least {_SSIM_WINDOW} x {_SSIM_WINDOW} pixels, "
            f"got {height} x {width}; train at a larger size"
        )
    x, y = _to_unit(generated), _to_unit(target)
    moments = jnp.stack([x, y, x * x, y * y, x * y])
    # One channel at a time through the same window: fold everything but height and width away.
    planes = jnp.moveaxis(moments, -1, 2).reshape(-1, height, width)
    blurred = _blur(planes).reshape(5, batch, channels, height - 10, width - 10)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = blurred
    var_x, var_y = mean_xx - mean_x**2, mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


@jax.jit
def sharpness(images: jax.Array) -> jax.Array:
    """Mean gradient magnitude of the luma, float32 [B], in units of the range a pixel.

    sqrt(dx^2 + dy^2) of forward differences, averaged over the (H-1) x (W-1) pixels that have both
    neighbours; luma = 0.299 R + 0.587 G + 0.114 B on [0, 1]. A blur scores low, speckle high: the
    job reports generated / real, which should be near 1.

    Args:
        images: uint8 [B, H, W, 3].
    """
    red, green, blue = jnp.moveaxis(_to_unit(images), -1, 0)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    dx = luma[:, :-1, 1:] - luma[:, :-1, :-1]
    dy = luma[:, 1:, :-1] - luma[:, :-1, :-1]
    return jnp.mean(jnp.sqrt(dx**2 + dy**2), axis=(1, 2))


def _to_unit(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255.0


def _blur(planes: jax.Array) -> jax.Array:
    """Gaussian window over [N, H, W], separable, only where it fits: [N, H-10, W-10]."""
    offset = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    weights = np.exp(-(offset**2) / (2 * _SSIM_SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = planes.shape[1:]
    # Sums of shifted planes: on a CPU some ten times as fast as a convolution of one channel.
    rows = sum(w * planes[:, k : k + height - 10] for k, w in enumerate(weights))
    # Without the barrier XLA would fuse both sums and compute each row sum eleven times over.
    rows = jax.lax.optimization_barrier(rows)
    return sum(w * rows[:, :, k : k + width - 10] for k, w in enumerate(weights))
