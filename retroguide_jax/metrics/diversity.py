"""Diversity: spread of the images generated from one source under several noises.

All images are uint8 and distances are on [0, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np

# The mean over a few pixels does not represent the colour of a surface.
_MIN_SHARE = 0.01


@jax.jit
def mean_pairwise_distance(samples: jax.Array) -> jax.Array:
    """Mean root-mean-square pixel distance over all pairs of noises, float32 [B], in [0, 1].

    Args:
      samples: uint8 [K, B, H, W, 3], K >= 2 images of each source under K noises.

    A pixel distance, not LPIPS: it counts a change of brightness as much as a change of content.

    Raises:
      ValueError: K < 2.
    """
    num_noises = samples.shape[0]
    if num_noises < 2:
        raise ValueError("a distance between noises needs at least 2 of them")
    images = samples.astype(jnp.float32)
    total = jnp.zeros(samples.shape[1])
    for first in range(num_noises):
        for second in range(first + 1, num_noises):
            # Subtract before scaling, so that equal pixels differ by exactly 0.
            squared = jnp.square((images[first] - images[second]) / 255.0)
            total += jnp.sqrt(jnp.mean(squared, axis=(1, 2, 3)))
    return total / (num_noises * (num_noises - 1) / 2)


@jax.jit
def mean_colour(images: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean colour under a mask, float32 [..., B, 3] in [0, 1]; NaN where the mask is near empty.

    Args:
      images: uint8 [..., B, H, W, 3].
      mask: bool [B, H, W]; true on less than 1 % of an image counts as empty.
    """
    weight = mask.astype(jnp.float32)[..., None]
    share = jnp.mean(weight, axis=(-3, -2))
    colour = jnp.mean(images.astype(jnp.float32) / 255.0 * weight, axis=(-3, -2)) / share
    return jnp.where(share >= _MIN_SHARE, colour, jnp.nan)


def compute_spread_ratio(generated: np.ndarray, real: np.ndarray) -> tuple[float, int]:
    """Spread of a surface's colour over the noise, relative to its spread over real images.

    Args:
      generated: [K, N, 3], `mean_colour` of the image of source n under noise k, both taken
        under a mask of the real target n: of its sky, its paved ground, its buildings.
      real: [N, 3], `mean_colour` of the real targets. Rows with NaN (nothing there) are left out.

    Returns:
      (ratio, number of images used). The ratio is sqrt(mean over n and channels of the variance
      over k) / sqrt(mean over channels of the variance over n), variances unbiased so that it
      does not depend on K or N: 0 when the noise does not change the colour, 1 when the skies of
      one source vary as much as those of the entire test set. NaN where it is undefined (K < 2,
      fewer than two images that show the surface, or all real ones equal).
    """
    is_shown = np.all(np.isfinite(real), axis=-1)
    generated = np.asarray(generated, np.float64)[:, is_shown]
    real = np.asarray(real, np.float64)[is_shown]
    num_images = len(real)
    if len(generated) < 2 or num_images < 2:
        return float("nan"), num_images
    real_variance = np.mean(np.var(real, axis=0, ddof=1))
    if real_variance == 0:
        return float("nan"), num_images
    noise_variance = np.mean(np.var(generated, axis=0, ddof=1))
    return float(np.sqrt(noise_variance / real_variance)), num_images
