"""The mean of the SSIM map, for windows of any weights.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: at
each window position, with weighted means m, variances v and covariance c of the windows x and y,

    SSIM = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1)  *  (2 c + C2) / (v_x + v_y + C2)

and C1 = (0.01 L)^2, C2 = (0.03 L)^2 for values up to L; here L = 255, which changes nothing, as
SSIM has no unit.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.metrics.pixels import sum_exactly

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def average_similarity(
    flatten_fn: Callable[[jax.Array], jax.Array],
    generated: jax.Array,
    target: jax.Array,
    window: np.ndarray,
    centres: jax.Array | None = None,
    *,
    step: int = 1,
    correction: float = 1.0,
) -> jax.Array:
    """Mean of the SSIM map of each image, float32 [B].

    Args:
      flatten_fn: image, uint8 [H, W, 3] -> its values in [0, 255], float32 [H', W'].
      generated, target: uint8 [B, H, W, 3].
      window: float32 [N]; the 2D window is its outer product with itself.
      centres: bool [B, H - N + 1, W - N + 1], the positions that count; all when None.
      step: columns from a value to its neighbour along the row.
      correction: factor for variances and covariance.
    """

    def score(pair):
        # One image at a time, so that the data between the stages fits into a core's cache.
        generated, target, *centres = pair
        apart = functools.partial(_compute_apart, generated[0, 0, 0].astype(jnp.float32) >= 0)
        planes = apart(lambda x, y: _mix(flatten_fn(x), flatten_fn(y)), generated, target)
        down = apart(lambda planes: [_slide(window, 0, 1, plane) for plane in planes], planes)
        loss = apart(
            lambda down: _compare(*(_slide(window, 1, step, *plane) for plane in down), correction),  # pyright: ignore[reportCallIssue]
            down,
        )
        if not centres:
            return 1 - _sum(loss) / loss.size
        counted = jnp.repeat(centres[0], step, axis=1)
        return 1 - _sum(jnp.where(counted, loss, 0)) / jnp.sum(counted)

    pairs = (generated, target) if centres is None else (generated, target, centres)
    return jax.lax.map(score, pairs)


def _mix(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum and difference, which is all that SSIM depends on: see `_compare`."""
    return x + y, x - y


def _slide(
    window: np.ndarray,
    axis: int,
    step: int,
    mean: jax.Array,
    variance: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Weighted mean and variance along one axis of the window, for each position.

    The variance over two axes is the mean variance along the one plus the variance of the means
    along the other. All are computed from differences to the middle value: E[x^2] - E[x]^2 would
    lose the variance of a uniform, bright area to rounding, where SSIM compares it with C2 alone.

    Args:
      window: float32 [N].
      axis: 0 for columns, 1 for rows.
      step: from a value to its neighbour along the axis.
      mean, variance: [H, W], the results along the other axis; at first the values and None.
    """
    length = mean.shape[axis] - step * (len(window) - 1)

    def shift(plane, k):
        return jax.lax.slice_in_dim(plane, k * step, k * step + length, axis=axis)

    # Sums of shifted planes: on a CPU some ten times as fast as a convolution of one channel.
    middle = shift(mean, len(window) // 2)
    offset = spread = 0.0
    for k, weight in enumerate(window):
        difference = shift(mean, k) - middle
        offset += weight * difference
        spread += weight * jnp.square(difference)
        if variance is not None:
            spread += weight * shift(variance, k)
    return middle + offset, spread - jnp.square(offset)


def _compare(
    total: tuple[jax.Array, jax.Array], difference: tuple[jax.Array, jax.Array], correction: float
) -> jax.Array:
    """1 - SSIM at each position, from mean and variance of x + y and of x - y.

    With t = x + y and d = x - y the two factors of SSIM are 1 - m_d^2 / ((m_t^2 + m_d^2) / 2 + C1)
    and 1 - v_d / ((v_t + v_d) / 2 + C2): no digit is lost where the images are nearly equal.
    """
    (mean_t, var_t), (mean_d, var_d) = total, difference
    luminance = jnp.square(mean_d) / ((jnp.square(mean_t) + jnp.square(mean_d)) / 2 + _C1)
    structure = correction * var_d / (correction * (var_t + var_d) / 2 + _C2)
    return luminance + structure - luminance * structure


def _sum(loss: jax.Array) -> jax.Array:
    """Sum of [H, W] values in [0, 2], float32 [].

    Sums integers in units of 2^-24: a sum of thousands of equal floats would drift to one side.
    """
    steps = jnp.round(jnp.maximum(loss, 0) * 2.0**24).astype(jnp.int32)[None]
    high, low = sum_exactly(steps >> 12)[0], sum_exactly(steps & 0xFFF)[0]
    return high * 2.0**-12 + low * 2.0**-24


def _compute_apart(always: jax.Array, fn: Callable[..., Any], *operands: Any) -> Any:
    """fn(*operands), computed once and kept, where XLA would compute it again at each use.

    XLA for CPUs fuses a stage into the next, in spite of optimization_barrier, and so sums down the
    window again for each of its columns: twenty times the work. It does not fuse across a branch.

    Args:
      always: bool [], true, but unknown at compile time.
      fn: returns a tree of arrays.
    """
    shapes = jax.eval_shape(fn, *operands)
    value = jax.tree.leaves(operands)[0].ravel()[0]

    def skip(*_):
        # The fill value varies over devices as the operands do: shard_map compares the branches.
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), shapes)

    return jax.lax.cond(always, fn, skip, *operands)
