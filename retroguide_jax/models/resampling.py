"""Changes of size: x2 and x1/2 of maps [B, H, W, C], and images resized to any size."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from retroguide_jax.models.polar import to_polar


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _double(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    """Doubles one axis with the weights 3/4, 1/4 of a half-pixel-centred linear interpolation."""
    return jax.lax.platform_dependent(
        x,
        tpu=functools.partial(_double_by_product, axis=axis, circular=circular),
        default=functools.partial(_double_by_shifts, axis=axis, circular=circular),
    )


def _double_backward(axis: int, circular: bool, _, grad: jax.Array) -> tuple[jax.Array]:
    """The transpose, in one pass over the gradient; the derived one takes CPUs many passes."""
    fns = {"tpu": _halve_by_product, "default": _halve_by_shifts}
    fns = {name: functools.partial(fn, axis=axis, circular=circular) for name, fn in fns.items()}
    return (jax.lax.platform_dependent(grad, **fns),)


def _double_by_shifts(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    first, last = _ends(x, axis)
    before = _move_up(x, last if circular else first, axis)
    after = _move_down(x, first if circular else last, axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _halve_by_shifts(grad: jax.Array, axis: int, circular: bool) -> jax.Array:
    pair = grad.reshape(*grad.shape[:axis], -1, 2, *grad.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pair, k, axis + 1, keepdims=False) for k in (0, 1))
    # The first of a pair has weight 1/4 on the pixel before, the second on the pixel after.
    first, last = _ends(even, axis)[0], _ends(odd, axis)[1]
    after = _move_down(even, first if circular else last, axis)
    before = _move_up(odd, last if circular else first, axis)
    return 0.75 * (even + odd) + 0.25 * (after + before)


def _double_by_product(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    """One product with a matrix of weights: TPUs move shifted and interleaved maps many times."""
    return _multiply(_interpolation(x.shape[axis], circular), x, axis)


def _halve_by_product(grad: jax.Array, axis: int, circular: bool) -> jax.Array:
    return _multiply(_interpolation(grad.shape[axis] // 2, circular).T, grad, axis)


def _multiply(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    exact = jax.lax.Precision.HIGHEST  # the weights are exact in any type, x keeps its own
    product = jnp.tensordot(matrix.astype(x.dtype), x, (1, axis), precision=exact)
    return jnp.moveaxis(product, 0, axis)


def _interpolation(length: int, circular: bool) -> np.ndarray:
    """The weights of `_double`: [2 length, length]."""
    rows = np.arange(2 * length)
    nearest = rows // 2
    other = nearest + 2 * (rows % 2) - 1
    other = other % length if circular else other.clip(0, length - 1)
    matrix = np.zeros((2 * length, length), np.float32)
    np.add.at(matrix, (rows, nearest), 0.75)
    np.add.at(matrix, (rows, other), 0.25)
    return matrix


def _double_forward(x: jax.Array, axis: int, circular: bool) -> tuple[jax.Array, None]:
    """Only where gradients are taken: `jax.export` does not write layouts to files."""
    x = _double(x, axis, circular)
    if axis == 2 and x.shape[-1] >= 128:
        x = jax.lax.platform_dependent(x, tpu=_lay_out, default=lambda x: x)
    return x, None


def _lay_out(x: jax.Array) -> jax.Array:
    """Images beside channels in memory: the order of TPUs' convolutions, not of their products."""
    return with_layout_constraint(x, Layout(major_to_minor=(1, 2, 0, 3)))


_double.defvjp(_double_forward, _double_backward)


def _ends(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    length = x.shape[axis]
    cut = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
    return cut(0, 1), cut(length - 1, length)


def _move_up(x: jax.Array, edge: jax.Array, axis: int) -> jax.Array:
    """Each position takes the value of the one before it, the first takes `edge`."""
    return jnp.concatenate([edge, jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)], axis)


def _move_down(x: jax.Array, edge: jax.Array, axis: int) -> jax.Array:
    """Each position takes the value of the one after it, the last takes `edge`."""
    return jnp.concatenate([jax.lax.slice_in_dim(x, 1, x.shape[axis], axis=axis), edge], axis)


def upsample(x: jax.Array, circular: bool = False) -> jax.Array:
    """Bilinear x2 of [B, H, W, C]; columns wrap round when `circular`, otherwise the edge repeats.

    Interpolation before a convolution, in place of a strided transposed convolution, avoids
    checkerboard artefacts.
    """
    return _double(_hold(_double(_hold(x), 1, False)), 2, circular)


def _hold(x: jax.Array) -> jax.Array:
    """Keeps XLA on CPUs from inlining a gradient's many shifted terms into one another."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def downsample(x: jax.Array) -> jax.Array:
    """Mean over 2 x 2 blocks: [B, H, W, C] to [B, H/2, W/2, C]."""
    if x.shape[-1] > 3:
        return _mean_of_blocks(x)
    return jax.lax.platform_dependent(x, tpu=_mean_by_products, default=_mean_of_blocks)


def _mean_of_blocks(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _mean_by_products(x: jax.Array) -> jax.Array:
    """For images: TPUs pad blocks of three channels to many times their size."""
    return _multiply(_pair_means(x.shape[2]), _multiply(_pair_means(x.shape[1]), x, 1), 2)


def _pair_means(length: int) -> np.ndarray:
    """The weights of a mean over pairs: [length / 2, length]."""
    return np.repeat(0.5 * np.eye(length // 2, dtype=np.float32), 2, axis=1)


def fit_to(images: jax.Array, size: Sequence[int], polar: bool = False) -> jax.Array:
    """Resizes [B, H, W, C] to `size`, ignoring the aspect ratio: bilinear, antialiased.

    With `polar`, samples aerial images in polar coordinates instead.
    """
    if polar:
        return to_polar(images, size)
    return jax.image.resize(images, (images.shape[0], *size, images.shape[-1]), "linear")
