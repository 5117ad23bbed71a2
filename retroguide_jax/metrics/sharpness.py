"""Sharpness: four published "sharpness differences" and our own metric, one value per image.

Mathieu et al., "Deep multi-scale video prediction beyond mean square error", 2016, compare the
gradients of two images by 10 log10(peak^2 / mean difference). Each paper uses another gradient
and another scale. Name, error e and scale, with dx, dy the differences of neighbours, p the
generated image and t the target:

sd_lua  mean(| |dx p| - |dx t| | + | |dy p| - |dy t| |)      5.99 dB up
sd_shi  mean(|dx p - dx t| + |dy p - dy t|)                  6.00 dB up
sd_s2d  mean| (|dx p| + |dy p|) - (|dx t| + |dy t|) |        no offset
sd_sky  Sobel gradients of the grey image                    a quarter of Sobel's usual scale
"""

import jax
import jax.numpy as jnp

from retroguide_jax.metrics.pixels import check_images, compute_luma, sum_exactly


@jax.jit
def sd_lua(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Sharpness difference of the X-Fork Lua script in dB, float32 [B].

    Backward differences on [0, 1] at the pixels that are not on the border, each channel apart; e
    is their sum divided by the number of *all* values, border too. 10 log10(255^2 / (128^2 e)),
    128^2 e at least 1e-4. computel1difference in Evaluation/my_image_error_measures.lua of Regmi
    and Borji, 2018, shared by SelectionGAN, CrossMLP and PanoGAN.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than 3 x 3, differ in size or are too large.
    """
    check_images("sd_lua", generated, target, min_size=3)
    (dx_p, dy_p), (dx_t, dy_t) = (
        (jnp.abs(dx[:, 1:-1, :-1]), jnp.abs(dy[:, :-1, 1:-1]))
        for dx, dy in map(_difference, (generated, target))
    )
    total = sum_exactly(jnp.abs(dx_p - dx_t) + jnp.abs(dy_p - dy_t))
    error = 128**2 / 255 * total / generated[0].size
    return 10 * jnp.log10(255.0**2 / jnp.maximum(error, 1e-4))


@jax.jit
def sd_shi(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Sharpness difference of Shi et al. in dB, float32 [B]: 10 log10(255^2 / (64 e)).

    e is the mean of |dx p - dx t| + |dy p - dy t| on 0..255, forward differences with their signs,
    at the pixels that are not on the border. evaluation_metrics/metrics_tf.py of "Geometry-guided
    street-view panorama synthesis from satellite imagery", 2022. Infinite for equal gradients.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than 3 x 3, differ in size or are too large.
    """
    check_images("sd_shi", generated, target, min_size=3)
    dx_p, dy_p = _difference_inside(generated)
    dx_t, dy_t = _difference_inside(target)
    error = _average(jnp.abs(dx_p - dx_t) + jnp.abs(dy_p - dy_t))
    return 10 * jnp.log10(255.0**2 / (64 * error))


@jax.jit
def sd_s2d(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Sharpness difference of Sat2Density in dB, float32 [B]: 10 log10(1 / e).

    e is the mean of | (|dx t| + |dy t|) - (|dx p| + |dy p|) | on [0, 1], forward differences at the
    pixels that are not on the border. sd_func in model/base_model.py of Qian et al., "Sat2Density",
    2023, also ControlS2S. Infinite where no pixel differs in |dx| + |dy|.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than 3 x 3, differ in size or are too large.
    """
    check_images("sd_s2d", generated, target, min_size=3)
    sharp_p, sharp_t = (
        jnp.abs(dx) + jnp.abs(dy) for dx, dy in map(_difference_inside, (generated, target))
    )
    return 10 * jnp.log10(255.0 / _average(jnp.abs(sharp_p - sharp_t)))


@jax.jit
def sd_sky(generated: jax.Array, target: jax.Array) -> jax.Array:
    """Sharpness difference of SkyDiffusion ("L1") in dB, float32 [B]: 10 log10(1 / e).

    e is the mean over all pixels of |sobel_h p - sobel_h t| / 4 + |sobel_v p - sobel_v t| / 4 on
    grey images on [0, 1], at least 1e-4: 40 dB at the most. sobel_h and sobel_v are scikit-image's,
    which divide the kernel [1, 2, 1] x [1, 0, -1] by 4 themselves and repeat the border; the
    quarter of the formula comes on top. Grey is OpenCV's reading of a colour PNG as grey: 8 bits,
    cut off, not rounded. L1difference in eval/evaluation.py of Ye et al., "SkyDiffusion", 2024.

    Args:
      generated, target: uint8 [B, H, W, 3].

    Raises:
      UserError: the images differ in size or are too large.
    """
    check_images("sd_sky", generated, target)
    # Sobel is linear: the gradient of the difference is the difference of the gradients.
    difference = _to_grey(generated) - _to_grey(target)
    padded = jnp.pad(difference, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    vertical = jnp.abs(down[:, :, 2:] - down[:, :, :-2])
    horizontal = jnp.abs(across[:, 2:] - across[:, :-2])
    error = _average(horizontal + vertical) / (4 * 4 * 255)
    return 10 * jnp.log10(1 / jnp.maximum(error, 1e-4))


@jax.jit
def sharpness(images: jax.Array) -> jax.Array:
    """Mean gradient magnitude of the luma, float32 [B], in value ranges per pixel; ours.

    sqrt(dx^2 + dy^2) of forward differences, averaged over the (H-1) x (W-1) pixels that have both
    neighbours; luma = 0.299 R + 0.587 G + 0.114 B on [0, 1]. A blur scores low, speckle high: the
    job reports generated / real, which should be near 1.

    Args:
      images: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than 2 x 2 or too large.
    """
    check_images("sharpness", images, min_size=2)

    def score(image):
        luma = compute_luma(image) / 255
        dx = luma[:-1, 1:] - luma[:-1, :-1]
        dy = luma[1:, :-1] - luma[:-1, :-1]
        return jnp.mean(jnp.sqrt(dx**2 + dy**2))

    # One image at a time: else the order of summation depends on the number of images.
    return jax.lax.map(score, images)


def _difference(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Differences of neighbours, int32 [B, H, W-1, 3] along rows and [B, H-1, W, 3] down."""
    values = images.astype(jnp.int32)
    return values[:, :, 1:] - values[:, :, :-1], values[:, 1:] - values[:, :-1]


def _difference_inside(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Forward differences along rows and down, int32 [B, H-2, W-2, 3], without the border."""
    dx, dy = _difference(images)
    return dx[:, 1:-1, 1:], dy[:, 1:, 1:-1]


def _average(values: jax.Array) -> jax.Array:
    return sum_exactly(values) / values[0].size


def _to_grey(images: jax.Array) -> jax.Array:
    """Grey images int32 [B, H, W] in 0..255, as libpng converts colour for OpenCV."""
    red, green, blue = (images[..., channel].astype(jnp.int32) for channel in range(3))
    return (9797 * red + 19234 * green + 3737 * blue) >> 15
