"""Detects broken images: images that look like no real image, in any data set.

A broken generator draws single pixels or small blocks that alternate between dark and bright,
saturates, or collapses to a flat image. Each measure of an image is compared with its range over
the real images of the same evaluation. A protocol of this project.
"""

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.metrics.pixels import check_images, sum_exactly

_SIZES = (1, 2, 4)  # of blocks, in pixels
MEASURES = (
    "saturation",
    *(f"{what}_{size}" for size in _SIZES for what in ("blocks", "worst_blocks")),
    "spectrum",
)
MIN_REFERENCES = 100  # the range of fewer real images raises false alarms
_NUM_DEVIATIONS = 3.5
_LEAST_DEVIATION = 0.01  # of a logarithm; lower bound, for real images that hardly differ
# Allowed above the highest saturation of a real image: the share of a white sky varies, but black
# and white blocks saturate far more.
_SATURATION_MARGIN = 0.05
_FLAT_FACTOR = 4.0  # a blurred image is not broken; one with a quarter of the least detail is


@jax.jit
def measure_breakage(images: jax.Array) -> jax.Array:
    """The measures of each image, float32 [B, 8], in the order of `MEASURES`.

    saturation: share of the channel values that are 0 to 2 or 253 to 255.
    blocks_k, of the luma averaged over k x k pixels: how far a pixel lies outside both neighbours
      in its row *and* both in its column, the least of the four distances, 0 for others; mean over
      the image, and over the worst window of half its height (512 pixels at most).
    spectrum: mean |second difference| of the luma, across rows and columns.

    All sums are integer sums, the luma's in units of 1/256: they do not depend on device or order.

    Args:
      images: uint8 [B, H, W, 3].

    Raises:
      UserError: the images are smaller than 16 x 16 or too large.
    """
    check_images("broken_share", images, min_size=16)
    red, green, blue = (images[..., channel].astype(jnp.int32) for channel in range(3))
    luma = 77 * red + 150 * green + 29 * blue  # 256 * BT.601
    is_extreme = (images <= 2) | (images >= 253)
    saturation = sum_exactly(is_extreme.astype(jnp.int32)) / images[0].size
    blocks = [part for s in _SIZES for part in _measure_blocks(_sum_tiles(luma, s), s)]
    cross = jnp.abs(jnp.diff(jnp.diff(luma, axis=1), axis=2)) >> 4
    spectrum = sum_exactly(cross) / (16 * cross[0].size)
    return jnp.stack([saturation, *blocks, spectrum], axis=1)


def _sum_tiles(luma: jax.Array, size: int) -> jax.Array:
    height, width = (length // size * size for length in luma.shape[1:])
    tiles = (len(luma), height // size, size, width // size, size)
    return luma[:, :height, :width].reshape(tiles).sum(axis=(2, 4))


def _measure_blocks(luma: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    alone = jnp.minimum(_stand_out(luma, 2)[:, 1:-1], _stand_out(luma, 1)[:, :, 1:-1])
    alone = alone // (16 * size**2)  # grey levels in 1/16
    side = min(luma.shape[1] // 2, *alone.shape[1:], 512)
    sums = jax.lax.reduce_window(alone, 0, jax.lax.add, (1, side, side), (1, 1, 1), "valid")
    worst = sums.max(axis=(1, 2)).astype(jnp.float32) / (16 * side**2)
    return sum_exactly(alone) / (16 * alone[0].size), worst


def _stand_out(luma: jax.Array, axis: int) -> jax.Array:
    """How far each inner value lies outside its two neighbours along an axis; 0 between them."""
    steps = jnp.diff(luma, axis=axis)
    length = steps.shape[axis]
    before = jax.lax.slice_in_dim(steps, 0, length - 1, axis=axis)
    after = jax.lax.slice_in_dim(steps, 1, length, axis=axis)
    is_outside = jnp.sign(before) * jnp.sign(after) < 0
    return jnp.where(is_outside, jnp.minimum(jnp.abs(before), jnp.abs(after)), 0)


def find_broken(measures: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Which images are broken: a measure lies outside its range over the real images.

    The range is mean +- 3.5 standard deviations of the logarithm, for the spectrum and, for each
    size, for the geometric mean of blocks and worst_blocks. For the spectrum its
    lower end is lower by a further factor of 4; for blocks there is no lower end. The saturation
    may be at most 0.05 above the highest real one.

    Args:
      measures: float [..., 8], of `measure_breakage`.
      real: float [N, 8], the same of the real images.

    Returns:
      bool [...].
    """
    logs = _take_logs(real)
    return _compare(measures, real[:, 0].max(), logs.mean(axis=0), logs.std(axis=0, ddof=1))


def find_false_alarms(real: np.ndarray) -> np.ndarray:
    """Which real images `find_broken` takes for broken, each by the range of the others: bool [N].

    Args:
      real: float [N, 8], of `measure_breakage`.
    """
    logs, num = _take_logs(real), len(real)
    means = (logs.sum(axis=0) - logs) / (num - 1)
    squares = np.square(logs - logs.mean(axis=0))
    variances = (squares.sum(axis=0) - squares * num / (num - 1)) / (num - 2)
    deviations = np.sqrt(np.maximum(variances, 0))
    second, first = np.sort(real[:, 0])[-2:]
    highest = np.where(real[:, 0] == first, second, first)
    return _compare(real, highest, means, deviations)


def _take_logs(measures: np.ndarray) -> np.ndarray:
    """Logarithms [..., 4] of the blocks of each size and of the spectrum."""
    blocks = np.sqrt(measures[..., 1:-1:2] * measures[..., 2:-1:2])
    return np.log(np.concatenate([blocks, measures[..., -1:]], axis=-1) + 1e-3)


def _compare(measures, highest, means, deviations) -> np.ndarray:
    logs, deviations = _take_logs(measures), np.maximum(deviations, _LEAST_DEVIATION)
    is_saturated = measures[..., 0] > highest + _SATURATION_MARGIN
    is_above = np.any(logs > means + _NUM_DEVIATIONS * deviations, axis=-1)
    least = means[..., -1] - _NUM_DEVIATIONS * deviations[..., -1] - np.log(_FLAT_FACTOR)
    return is_saturated | is_above | (logs[..., -1] < least)
