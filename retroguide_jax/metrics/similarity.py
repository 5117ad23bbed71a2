"""The SSIM variants of the literature, one value per image; see structure.py for the formula.

They differ in the window and in the treatment of the border and of the colours.
"""

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.metrics.pixels import check_images, check_mask, compute_luma, has_enough
from retroguide_jax.metrics.structure import average_similarity


def _make_gaussian() -> np.ndarray:
    weights = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
    return (weights / weights.sum()).astype(np.float32)


_GAUSSIAN = _make_gaussian()
_UNIFORM = np.full(7, 1 / 7, np.float32)
# scikit-image's sample covariance of a 7 x 7 window.
_SAMPLE = 49 / 48


@jax.jit
def ssim_rgb(generated: jax.Array, target: jax.Array) -> jax.Array:
    """SSIM of tf.image.ssim and pytorch_msssim, float32 [B], at most 1.

    Gaussian window 11 x 11, sigma 1.5, at the positions where it fits; mean over positions and RGB
    channels. Shi et al., Sat2Density, ControlS2S, Sat3DGen. torchmetrics differs: it counts windows
    on the border too, the image mirrored there.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than the window, differ in size or are too large.
    """
    check_images("ssim_rgb", generated, target, min_size=11)
    return average_similarity(_interleave, generated, target, _GAUSSIAN, step=3)


@jax.jit
def ssim_lua(generated: jax.Array, target: jax.Array) -> jax.Array:
    """SSIM of the X-Fork Lua script, float32 [B], at most 1.

    On the luma; Gaussian window 11 x 11, sigma 1.5, at all positions where it touches the image
    ("full": the map is H + 10 x W + 10), black outside, which raises the score of small images.
    Evaluation/my_image_error_measures.lua of Regmi and Borji, "Cross-view image synthesis using
    conditional GANs", 2018, shared by SelectionGAN, CrossMLP and PanoGAN.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("ssim_lua", generated, target)
    return average_similarity(_frame_luma, generated, target, _GAUSSIAN)


@jax.jit
def ssim_skimage(generated: jax.Array, target: jax.Array) -> jax.Array:
    """SSIM of skimage.metrics.structural_similarity(channel_axis=-1), float32 [B], at most 1.

    Its defaults: uniform window 7 x 7, sample covariance, at the positions where the window fits;
    mean over positions and RGB channels. GPG2A.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than the window, differ in size or are too large.
    """
    check_images("ssim_skimage", generated, target, min_size=7)
    return average_similarity(_interleave, generated, target, _UNIFORM, step=3, correction=_SAMPLE)


@jax.jit
def ssim_skimage_luma(generated: jax.Array, target: jax.Array) -> jax.Array:
    """`ssim_skimage` of the luma, float32 [B]: SSIM in eval/evaluation.py of SkyDiffusion.

    SkyDiffusion takes Y of skimage.color.rgb2yuv of the images on [0, 1], data_range 1.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than the window, differ in size or are too large.
    """
    check_images("ssim_skimage_luma", generated, target, min_size=7)
    return average_similarity(compute_luma, generated, target, _UNIFORM, correction=_SAMPLE)


@jax.jit
def ssim_rgb_nosky(generated: jax.Array, target: jax.Array, sky_mask: jax.Array) -> jax.Array:
    """`ssim_rgb` over the window positions whose centre is not sky, float32 [B]; ours.

    NaN where less than 1 % of the image is not sky, or none of it where a window can be centred.

    Args:
      generated, target: uint8 [B, H, W, 3].
      sky_mask: bool [B, H, W], true = sky.

    Raises:
      UserError: the images are smaller than the window, differ in size or are too large.
    """
    check_images("ssim_rgb_nosky", generated, target, min_size=11)
    check_mask("ssim_rgb_nosky", sky_mask, generated)
    rest = ~sky_mask
    centres = rest[:, 5:-5, 5:-5]
    score = average_similarity(_interleave, generated, target, _GAUSSIAN, centres, step=3)
    return jnp.where(has_enough(rest), score, jnp.nan)


def _interleave(image: jax.Array) -> jax.Array:
    """Image as [H, 3 W]: a value's neighbours along the row are three columns away."""
    return image.reshape(len(image), -1).astype(jnp.float32)


def _frame_luma(image: jax.Array) -> jax.Array:
    """Luma in a black frame, [H + 20, W + 20]: windows fit wherever they touch the image."""
    return jnp.pad(compute_luma(image), 10)
