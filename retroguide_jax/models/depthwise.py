"""Depthwise convolution that is fast on CPUs too.

XLA's CPU backend takes many times as long for it, and for its gradient, as for the equivalent sum
of shifted products (benchmarks/NOTES.md). Accelerators use XLA's own convolution.
"""

import functools

import jax
import jax.numpy as jnp


@jax.custom_vjp
def convolve_depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] and [k, k, C] to [B, H - k + 1, W - k + 1, C]: stride 1, no border."""
    return jax.lax.platform_dependent(x, kernel, cpu=_add_taps, default=_convolve)


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _add_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    size = kernel.shape[0]
    taps = _shifts(x, size, x.shape[1] - size + 1, x.shape[2] - size + 1)
    return functools.reduce(jnp.add, (tap * kernel[i, j] for i, j, tap in taps))


def _shifts(x: jax.Array, size: int, rows: int, columns: int):
    """Yields (i, j, the pixels that tap i, j of the window reads)."""
    for i in range(size):
        for j in range(size):
            yield i, j, x[:, i : i + rows, j : j + columns]


def _forward(x, kernel):
    return convolve_depthwise(x, kernel), (x, kernel)


def _backward(residuals, grad):
    return jax.lax.platform_dependent(
        *residuals, grad, cpu=_backward_by_taps, default=_backward_by_xla
    )


def _backward_by_xla(x, kernel, grad):
    return jax.vjp(_convolve, x, kernel)[1](grad)


def _backward_by_taps(x, kernel, grad):
    # Without the barrier, every tap would recompute the operations that produce `grad`.
    grad = jax.lax.optimization_barrier(grad)
    size = kernel.shape[0]
    around = (size - 1, size - 1)
    padded = jnp.pad(grad, ((0, 0), around, around, (0, 0)))
    grad_x = convolve_depthwise(padded, kernel[::-1, ::-1])
    taps = _shifts(x, size, *grad.shape[1:3])
    sums = [(tap * grad).astype(jnp.float32).sum((0, 1, 2)) for _, _, tap in taps]
    return grad_x, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


convolve_depthwise.defvjp(_forward, _backward)
