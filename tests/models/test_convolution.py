import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.models.convolution import convolve


def convolve_plainly(x, kernel, bias, stride, pads):
    """XLA's own convolution with XLA's own gradient."""
    padding = [(pads[0],) * 2, (pads[1],) * 2]
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=layout)
    return y + bias


@pytest.mark.parametrize(
    ("height", "width", "channels", "features", "size", "stride", "pads"),
    [
        (8, 10, 3, 5, 3, 1, (1, 1)),  # widening: the input is shifted
        (8, 10, 5, 3, 3, 1, (1, 0)),  # narrowing: the gradient is shifted
        (9, 10, 3, 5, 3, 2, (1, 1)),  # strides that do not divide the size
        (8, 8, 3, 5, 3, 2, (1, 0)),  # trailing pixels that no tap reaches
        (8, 8, 4, 6, 2, 2, (0, 0)),  # tiles
        (8, 8, 6, 4, 1, 1, (0, 0)),  # a product per position
    ],
)
def test_gradients_are_those_of_xla(height, width, channels, features, size, stride, pads):
    rng = np.random.default_rng(0)
    shapes = [(2, height, width, channels), (size, size, channels, features), (features,)]
    args = [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def derive(fn):
        """The value, its gradients, and the gradients of a function of those (as in R1)."""

        def loss(*args):
            return jnp.sin(fn(*args, stride, pads)).sum()

        def second(*args):
            return sum(jnp.square(grad).sum() for grad in jax.grad(loss, (0, 1, 2))(*args))

        def both(*args):
            first, other = jax.grad(loss, (0, 1, 2)), jax.grad(second, (0, 1, 2))
            return fn(*args, stride, pads), first(*args), other(*args)

        return jax.jit(both)(*args)

    ours, plain = derive(convolve), derive(convolve_plainly)
    for value, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert value.shape == expected.shape
        error = np.abs(value - expected).max() / np.abs(expected).max()
        assert error < 1e-5


def test_bfloat16_gradients_are_bfloat16():
    x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    kernel, bias = jnp.ones((3, 3, 2, 3), jnp.bfloat16), jnp.zeros((3,), jnp.bfloat16)
    grads = jax.eval_shape(
        jax.grad(lambda *args: convolve(*args, 1, (1, 1)).sum(), (0, 1, 2)), x, kernel, bias
    )
    assert {grad.dtype for grad in grads} == {jnp.dtype(jnp.bfloat16)}
