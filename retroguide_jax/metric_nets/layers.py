"""Layers of frozen convolutional networks: float32, NHWC, every product in full precision.

Networks are functions of a `Layers` and an array; each call of a layer passes its name and width.
So one function runs the network, given weights, and lists the weights it needs (`list_layers`).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

# By default, GPUs and TPUs round the factors to fewer bits, which changes the metrics.
PRECISION = lax.Precision.HIGHEST


class Layers:
    """Layers, named as in the PyTorch network that their weights come from.

    Args:
      variables: NAME.weight and NAME.bias of every layer: [kh, kw, in, out] (convolution) or
        [in, out] (dense), and [out].
    """

    def __init__(self, variables: Mapping[str, jax.Array]):
        self._variables = variables

    def conv(
        self,
        name: str,
        x: jax.Array,
        features: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
    ) -> jax.Array:
        """Convolution, bias and ReLU: [B, H, W, in] to [B, H', W', features].

        Args:
          name: name of the layer.
          kernel: height and width, odd.
          padding: zeros on each side; None is half the kernel, which keeps the size at stride 1.
        """
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight, bias = self._get(name, (height, width, x.shape[-1], features))
        if padding is None:
            around = [(height // 2, height // 2), (width // 2, width // 2)]
        else:
            around = [(padding, padding)] * 2
        return jax.nn.relu(_convolve(x, weight, stride, around) + bias)

    def conv_shared(
        self, names: Mapping[str, int], x: jax.Array, pooled: str | None = None
    ) -> list[jax.Array]:
        """1 x 1 convolutions of the same input, each with bias and ReLU, in one product.

        Args:
          names: name of each layer -> its number of features.
          x: [B, H, W, in].
          pooled: name of the layer whose input is averaged over 3 x 3 pixels (`avg_pool`).

        Returns:
          [B, H, W, features] of each layer.
        """
        layers = [self._get(name, (1, 1, x.shape[-1], width)) for name, width in names.items()]
        weight = jnp.concatenate([weight for weight, _ in layers], axis=-1)
        product = lax.dot_general(x, weight[0, 0], (((3,), (0,)), ((), ())), precision=PRECISION)
        outputs, start = [], 0
        for name, (_, bias) in zip(names, layers, strict=True):
            output = product[..., start : start + names[name]]
            start += names[name]
            if name == pooled:
                # A mean over pixels and a sum over channels commute, and the output has fewer
                # channels to average.
                output = avg_pool(output)
            outputs.append(jax.nn.relu(output + bias))
        return outputs

    def dense(self, name: str, x: jax.Array, features: int) -> jax.Array:
        """Linear layer with bias: [B, in] to [B, features]."""
        weight, bias = self._get(name, (x.shape[-1], features))
        return jnp.matmul(x, weight, precision=PRECISION) + bias

    def scope(self, prefix: str) -> "Layers":
        """The layers whose names begin with `prefix` and a dot, by the rest of their names."""
        return _Scope(self, prefix)

    def _get(self, name: str, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        del shape
        return self._variables[f"{name}.weight"], self._variables[f"{name}.bias"]


class _Scope(Layers):
    def __init__(self, parent: Layers, prefix: str):
        self._parent, self._prefix = parent, prefix

    def _get(self, name, shape):
        return self._parent._get(f"{self._prefix}.{name}", shape)


class _Recorder(Layers):
    """Records the shapes of the weights that are requested, and returns zeros."""

    def __init__(self):
        self.shapes = {}

    def _get(self, name, shape):
        self.shapes[name] = shape
        return jnp.zeros(shape), jnp.zeros(shape[-1])


def list_layers(
    network: Callable[[Layers, jax.Array], object], height: int, width: int
) -> dict[str, tuple[int, ...]]:
    """The layers that a network uses on an image [1, height, width, 3], in order.

    Returns:
      Name of the layer -> shape of its weight: [kh, kw, in, out] or [in, out].
    """
    recorder = _Recorder()
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    jax.eval_shape(lambda image: network(recorder, image), image)
    return recorder.shapes


def max_pool(
    x: jax.Array, size: int = 3, stride: int = 2, *, padding: int = 0, ceil: bool = False
) -> jax.Array:
    """Maximum of each window, [B, H, W, C]; padding counts as minus infinity.

    Args:
      ceil: keep a last window that lies only partly inside (PyTorch's ceil_mode).
    """
    around = []
    for length in x.shape[1:3]:
        partly = -(length + 2 * padding - size) % stride if ceil else 0
        around.append((padding, padding + partly))
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, ((0, 0), *around, (0, 0)))


def avg_pool(x: jax.Array) -> jax.Array:
    """Mean over 3 x 3 pixels, excluding the padding, stride 1: [B, H, W, C]."""
    window, steps = (1, 3, 3, 1), (1, 1, 1, 1)
    total = lax.reduce_window(x, 0.0, lax.add, window, steps, "SAME")
    inside = jnp.ones((1, *x.shape[1:3], 1))
    return total / lax.reduce_window(inside, 0.0, lax.add, window, steps, "SAME")


def _convolve(
    x: jax.Array, weight: jax.Array, stride: int, around: list[tuple[int, int]]
) -> jax.Array:
    height, width = weight.shape[:2]
    # On the CPU of jax 0.10 a convolution that shrinks its input by the kernel takes three to four
    # times as long as one that keeps the size, so the border is computed and cut off.
    cropped = stride == 1 and around == [(0, 0), (0, 0)] and height == width > 1
    if cropped:
        around = [(height // 2, height // 2)] * 2
    x = lax.conv_general_dilated(
        x,
        weight,
        (stride, stride),
        around,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=PRECISION,
    )
    if cropped:
        border = height // 2
        x = x[:, border:-border, border:-border]
    return x
