"""Convolution whose gradient is also fast on CPUs.

XLA's CPU backend computes the gradient of a convolution's kernel several times slower than the
convolution, both gradients tens of times slower inside a conditional (where the lazy terms of
the training step live), and the gradient of a bias together with everything that leads up to it.
There, gradients are taken by hand: one matrix product a tap for the kernel, a plain convolution
for the input. Accelerators use XLA's own rule.
"""

import functools

import jax
import jax.numpy as jnp


def _convolve(x, kernel, bias, stride: int, pads: tuple[int, int]) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    padding = tuple((pad, pad) for pad in pads)
    y = jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=layout)
    return y + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    stride: int = 1,
    pads: tuple[int, int] = (0, 0),
) -> jax.Array:
    """Convolves and adds a bias.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, D], of x's dtype.
      bias: [D], of x's dtype.
      stride: of both axes.
      pads: zero rows added above and below, zero columns added left and right.

    Returns:
      [B, (H + 2 pads[0] - k) // stride + 1, (W + 2 pads[1] - k) // stride + 1, D].
    """
    return _convolve(x, kernel, bias, stride, pads)


def _forward(x, kernel, bias, stride, pads):
    # Through the custom rule again, so that a gradient of a gradient (R1) keeps it too.
    return convolve(x, kernel, bias, stride, pads), (x, kernel, bias)


def _backward(stride, pads, residuals, grad):
    return jax.lax.platform_dependent(
        *residuals,
        grad,
        cpu=functools.partial(_backward_by_taps, stride, pads),
        default=functools.partial(_backward_by_xla, stride, pads),
    )


convolve.defvjp(_forward, _backward)


def _backward_by_xla(stride, pads, x, kernel, bias, grad):
    plain = functools.partial(_convolve, stride=stride, pads=pads)
    return jax.vjp(plain, x, kernel, bias)[1](grad)


def _backward_by_taps(stride, pads, x, kernel, bias, grad):
    # Without the barrier the products below would each recompute what leads up to the gradient.
    grad = jax.lax.optimization_barrier(grad)
    size, channels, features = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    sizes, counts = x.shape[1:3], grad.shape[1:3]
    # The transpose of a strided convolution: spread the gradient out, then convolve it with the
    # kernel turned by 180 degrees. Trailing pixels that no tap reached get zeros.
    spread = grad
    if stride > 1:
        ends = [
            length + 2 * pad - size - stride * (count - 1)
            for length, pad, count in zip(sizes, pads, counts, strict=True)
        ]
        inner = tuple((0, end, stride - 1) for end in ends)
        zero = jnp.zeros((), grad.dtype)
        spread = jax.lax.pad(grad, zero, ((0, 0, 0), *inner, (0, 0, 0)))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    around = (size - 1 - pads[0], size - 1 - pads[1])
    no_bias = jnp.zeros((channels,), grad.dtype)
    grad_x = convolve(spread, turned, no_bias, 1, around)

    flat = grad.reshape(-1, features)
    if stride == 1 and features < channels:
        # One matrix product a tap, with the narrower of the two sides shifted.
        taps = [x.reshape(-1, channels).T @ side for side in _shifts(grad, around, sizes, size, 1)]
        taps = taps[::-1]
    else:
        taps = [side.T @ flat for side in _shifts(x, pads, counts, size, stride)]
    grad_kernel = jnp.stack(taps).reshape(kernel.shape)
    grad_bias = jnp.ones((1, flat.shape[0]), flat.dtype) @ flat
    return grad_x, grad_kernel, grad_bias.reshape(bias.shape)


def _shifts(x, pads, counts, size: int, stride: int) -> list[jax.Array]:
    """What each tap of the window sees: size^2 arrays [B * counts[0] * counts[1], C]."""
    batch, channels = x.shape[0], x.shape[3]
    x = jnp.pad(x, ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)))
    rows, columns = (stride * (count - 1) + 1 for count in counts)
    return [
        jax.lax.slice(
            x, (0, i, j, 0), (batch, i + rows, j + columns, channels), (1, stride, stride, 1)
        ).reshape(-1, channels)
        for i in range(size)
        for j in range(size)
    ]
