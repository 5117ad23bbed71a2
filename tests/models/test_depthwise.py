"""The depthwise convolution against XLA's, values and gradients, and inside a conditional."""

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.models.depthwise import convolve_depthwise


def by_xla(x, kernel):
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def test_values_and_gradients_are_xlas():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 11, 5)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 5)).astype(np.float32)
    weights = rng.normal(size=(2, 7, 9, 5)).astype(np.float32)

    def differentiate(fn):
        return jax.value_and_grad(lambda x, k: (fn(x, k) ** 2 * weights).sum(), (0, 1))

    def ours(x, kernel):
        branch = differentiate(convolve_depthwise)
        nothing = (jnp.float32(0), (jnp.zeros_like(x), jnp.zeros_like(kernel)))
        return jax.lax.cond(x.sum() < 1e9, branch, lambda x, k: nothing, x, kernel)

    found, expected = jax.jit(ours)(x, kernel), jax.jit(differentiate(by_xla))(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), found, expected)
    assert convolve_depthwise(x, kernel).shape == (2, 7, 9, 5)
