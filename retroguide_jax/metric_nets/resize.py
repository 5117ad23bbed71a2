"""Resizing by two matrix products, with the weights of the libraries that metrics are defined by.

A matrix [num_out, num_in] holds, for each output pixel along one axis, the weights of the input
pixels. Rows and columns are independent in all of these protocols.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.metric_nets.layers import PRECISION

_PLACES = 22  # binary places of Pillow's weights for uint8


def resize(x: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Resizes columns, then rows: float32 [B, H, W, C] to [B, H', W', C].

    Args:
      rows: [H', H].
      columns: [W', W].
    """
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    x = jnp.einsum("bhwc,pw->bhcp", x, columns, precision=PRECISION)
    return jnp.einsum("bhcp,qh->bqpc", x, rows, precision=PRECISION)


def resize_uint8(images: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Pillow's Image.resize of uint8 images, bit-exact: uint8 [B, H, W, C] to [B, H', W', C].

    Pillow rounds weights to 22 binary places, sums integers, and rounds to uint8 after each of its
    two passes, columns first.

    Args:
      rows: [H', H], weights of a kernel without negative values.
      columns: [W', W], likewise.
    """
    x = _resize_columns(images, columns)
    return _resize_columns(x.swapaxes(1, 2), rows).swapaxes(1, 2)


def make_bilinear(num_in: int, num_out: int) -> np.ndarray:
    """torch.nn.functional.interpolate(mode="bilinear", align_corners=False): no antialiasing.

    Output pixel i samples position (i + 1/2) num_in / num_out - 1/2, at least 0.
    """
    # PyTorch multiplies and subtracts in one float32 operation that rounds once.
    position = np.float64(_scale(num_in, num_out)) * (np.arange(num_out) + 0.5) - 0.5
    return _interpolate(np.maximum(position.astype(np.float32), 0), num_in)


def make_bilinear_tf1(num_in: int, num_out: int) -> np.ndarray:
    """TensorFlow 1's resize_bilinear(align_corners=False), as torch-fidelity reimplements it.

    Output pixel i samples position i num_in / num_out: corners of pixels, not centres.
    """
    return _interpolate(_scale(num_in, num_out) * np.arange(num_out, dtype=np.float32), num_in)


def make_antialiased(
    num_in: int, num_out: int, kernel_fn: Callable[[np.ndarray], np.ndarray], support: float
) -> np.ndarray:
    """Pillow's Image.resize, float64; also PyTorch's interpolate(antialias=True).

    If the image shrinks, the kernel is widened by the same factor; its samples at the centres of
    the pixels inside its support are normalised to sum 1.

    Args:
      kernel_fn: the kernel at distances in pixels, `triangle` or `cubic`.
      support: distance from which it is 0.
    """
    scale = num_in / num_out
    widened = max(scale, 1.0)
    centre = (np.arange(num_out)[:, None] + 0.5) * scale
    pixel = np.arange(num_in)[None]
    # Truncation decides which pixels count, exactly as in Pillow.
    first = np.maximum((centre - support * widened + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support * widened + 0.5).astype(np.int64), num_in)
    weights = kernel_fn((pixel - centre + 0.5) / widened)
    weights = np.where((pixel >= first) & (pixel < last), weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def triangle(distance: np.ndarray) -> np.ndarray:
    """The kernel of Pillow's BILINEAR; support 1."""
    return np.maximum(1.0 - np.abs(distance), 0.0)


def cubic(distance: np.ndarray) -> np.ndarray:
    """The kernel of Pillow's BICUBIC, Keys' with a = -1/2; support 2."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


make_pillow_bilinear = functools.partial(make_antialiased, kernel_fn=triangle, support=1.0)
make_pillow_bicubic = functools.partial(make_antialiased, kernel_fn=cubic, support=2.0)


def _resize_columns(images: jax.Array, columns: np.ndarray) -> jax.Array:
    # Upper and lower half of the bits separately, so that their float32 sums are exact.
    halves = np.divmod(np.floor(columns * 2.0**_PLACES + 0.5), 2.0 ** (_PLACES // 2))
    x = images.astype(jnp.float32)
    high, low = (
        jnp.einsum("bhwc,pw->bhpc", x, half.astype(np.float32), precision=PRECISION)
        for half in halves
    )
    total = (high.astype(jnp.int32) << _PLACES // 2) + low.astype(jnp.int32)
    return ((total + (1 << _PLACES - 1)) >> _PLACES).astype(jnp.uint8)


def _scale(num_in: int, num_out: int) -> np.float32:
    # float32 as in both libraries: at a few hundred pixels it changes the weights' fifth digit.
    return np.float32(num_in / num_out)


def _interpolate(position: np.ndarray, num_in: int) -> np.ndarray:
    low = np.minimum(position.astype(np.int64), num_in - 1)
    high = np.minimum(low + 1, num_in - 1)
    fraction = (position - low.astype(np.float32))[:, None]
    identity = np.eye(num_in, dtype=np.float32)
    return identity[low] * (1 - fraction) + identity[high] * fraction
