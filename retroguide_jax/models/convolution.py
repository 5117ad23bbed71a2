"""Convolution whose gradient is also fast on CPUs.

XLA's CPU backend computes the gradient of a convolution's kernel several times slower than the
convolution itself, and both gradients tens of times slower inside a conditional (where the lazy
terms of the training step are). For the gradient of a bias it recomputes everything that leads up
to it. On CPUs, gradients are therefore written by hand: one matrix product per tap for the kernel,
a plain convolution for the input. Where the windows tile the image (1 x 1, or 2 x 2 with stride 2),
the convolution is one matrix product, and so are its gradients.

Accelerators use XLA's own rules: the rules that help CPUs cost TPUs memory and memory traffic.
"""

import functools

import jax
import jax.numpy as jnp

from retroguide_jax.models.folding import fold, unfold


def _convolve(x, kernel, bias, stride: int, pads: tuple[int, int]) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    padding = tuple((pad, pad) for pad in pads)
    y = jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=layout)
    return y + bias


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
    return _slide(x, kernel, bias, stride, pads)


def _is_tiling(kernel: jax.Array, stride: int, pads: tuple[int, int]) -> bool:
    return kernel.shape[0] == stride and pads == (0, 0)


def _multiply_tiles(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return jax.lax.dot_general(_tile(x, kernel.shape[0]), matrix, (((3,), (0,)), ((), ()))) + bias


def _tile(x: jax.Array, size: int) -> jax.Array:
    """`fold` of the complete tiles: [B, H, W, C] to [B, H // size, W // size, size^2 C]."""
    rows, columns = (length // size * size for length in x.shape[1:3])
    return fold(x[:, :rows, :columns], size)


def _untile(x: jax.Array, size: int, sizes: tuple[int, int]) -> jax.Array:
    """Inverse of `_tile`; pixels of the [B, *sizes, C] result that are in no tile are zero."""
    x = unfold(x, size)
    rest = [(0, length - have, 0) for length, have in zip(sizes, x.shape[1:3], strict=True)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *rest, (0, 0, 0)))


def _sum_rows(grad: jax.Array) -> jax.Array:
    """[..., D] to [D] as a product: XLA's CPU backend would recompute the input of a sum."""
    rows = tuple(range(grad.ndim - 1))
    ones = jnp.ones(grad.shape[:-1], grad.dtype)
    exact = jax.lax.Precision.HIGHEST
    return jax.lax.dot_general(ones, grad, ((rows, rows), ((), ())), precision=exact)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _slide(x, kernel, bias, stride: int, pads: tuple[int, int]) -> jax.Array:
    plain = functools.partial(_convolve, stride=stride, pads=pads)
    if _is_tiling(kernel, stride, pads):
        return jax.lax.platform_dependent(x, kernel, bias, cpu=_multiply_tiles, default=plain)
    return plain(x, kernel, bias)


def _forward(x, kernel, bias, stride, pads):
    # Calls `_slide`, not `_convolve`, so that second derivatives (R1) use the custom rule too.
    return _slide(x, kernel, bias, stride, pads), (x, kernel, bias)


def _backward(stride, pads, residuals, grad):
    by_taps = functools.partial(_backward_by_taps, stride, pads)
    return jax.lax.platform_dependent(
        *residuals,
        grad,
        cpu=_backward_of_tiles if _is_tiling(residuals[1], stride, pads) else by_taps,
        default=functools.partial(_backward_by_xla, stride, pads),
    )


_slide.defvjp(_forward, _backward)


def _backward_by_xla(stride, pads, x, kernel, bias, grad):
    plain = functools.partial(_convolve, stride=stride, pads=pads)
    return jax.vjp(plain, x, kernel, bias)[1](grad)


def _backward_of_tiles(x, kernel, bias, grad):
    # Without the barrier, each product below would recompute the operations that produce `grad`.
    grad = jax.lax.optimization_barrier(grad)
    size, matrix = kernel.shape[0], kernel.reshape(-1, kernel.shape[-1])
    grad_tiles = jax.lax.dot_general(grad, matrix, (((3,), (1,)), ((), ())))
    grad_matrix = _correlate(_tile(x, size), grad)
    grad_x = _untile(grad_tiles, size, x.shape[1:3])
    return grad_x, grad_matrix.reshape(kernel.shape), _sum_rows(grad)


def _backward_by_taps(stride, pads, x, kernel, bias, grad):
    # The barrier avoids recomputation, as in `_backward_of_tiles`.
    grad = jax.lax.optimization_barrier(grad)
    size, channels, features = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    sizes, counts = x.shape[1:3], grad.shape[1:3]
    around = (size - 1 - pads[0], size - 1 - pads[1])
    if stride == 1:
        turned = jax.lax.rev(kernel, (0, 1)).swapaxes(2, 3)
        grad_x = _slide(grad, turned, jnp.zeros((channels,), grad.dtype), 1, around)
    else:
        grad_x = _spread(grad, kernel, stride, pads, sizes)

    # One matrix product per tap; the array with fewer channels is the one that is shifted.
    if stride == 1 and features < channels:
        taps = [_correlate(x, side) for side in _shifts(grad, around, sizes, size, 1)][::-1]
    else:
        taps = [_correlate(side, grad) for side in _shifts(x, pads, counts, size, stride)]
    grad_kernel = jnp.stack(taps).reshape(kernel.shape)
    return grad_x, grad_kernel, _sum_rows(grad)


def _spread(grad, kernel, stride: int, pads, sizes) -> jax.Array:
    """The transpose of a strided convolution: [B, *counts, D] to [B, *sizes, C].

    Pixel stride q + p of the padded input is read by the taps stride t + p of the windows q - t.
    So one convolution of the gradient with stride 1 and stride^2 C output features gives the pixels
    of all phases p. Inserting zeros between the gradient's pixels would take stride^2 times the
    work.
    """
    size, _, channels, features = kernel.shape
    taps = -(-size // stride)
    missing = (0, taps * stride - size, 0)
    kernel = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), (missing, missing, *((0, 0, 0),) * 2))
    kernel = kernel.reshape(taps, stride, taps, stride, channels, features)
    kernel = jax.lax.rev(kernel, (0, 2)).transpose(0, 2, 5, 1, 3, 4)
    kernel = kernel.reshape(taps, taps, features, -1)
    no_bias = jnp.zeros((kernel.shape[-1],), grad.dtype)
    x = unfold(_slide(grad, kernel, no_bias, 1, (taps - 1, taps - 1)), stride)
    # Cut the padding off; trailing pixels that no tap reads get zeros.
    borders = [
        (-pad, pad + length - have, 0)
        for pad, length, have in zip(pads, sizes, x.shape[1:3], strict=True)
    ]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *borders, (0, 0, 0)))


def _correlate(x: jax.Array, y: jax.Array) -> jax.Array:
    """[B, H, W, C] and [B, H, W, D] to [C, D]."""
    rows = (0, 1, 2)
    return jax.lax.dot_general(x, y, ((rows, rows), ((), ())))


def _shifts(x, pads, counts, size: int, stride: int) -> list[jax.Array]:
    """The pixels that each tap of the window reads: size^2 arrays [B, *counts, C]."""
    batch, channels = x.shape[0], x.shape[3]
    borders = ((0, 0, 0), (pads[0], pads[0], 0), (pads[1], pads[1], 0), (0, 0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), borders)
    rows, columns = (stride * (count - 1) + 1 for count in counts)
    return [
        jax.lax.slice(
            x, (0, i, j, 0), (batch, i + rows, j + columns, channels), (1, stride, stride, 1)
        )
        for i in range(size)
        for j in range(size)
    ]
