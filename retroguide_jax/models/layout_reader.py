"""A small network that predicts class labels and depth from a panorama."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.folding import fold, unfold
from retroguide_jax.models.layers import Conv, leaky_relu
from retroguide_jax.models.resampling import upsample

_PATCH = 2  # side, in pixels, of the patch behind one position of the finest map


class LayoutReader(nn.Module):
    """A U-Net (Ronneberger et al., 2015) of three scales over patches of 2 x 2 pixels.

    Columns wrap round, so rolling the panorama by a multiple of `GRAIN` columns rolls the output.
    The row is the only coordinate it is given, because panoramas have a horizon. The output at a
    pixel does not depend on pixels more than 72 pixels away.

    Attributes:
      num_classes: labels are 0 .. num_classes - 1.
      features: channels of the three scales, finest first.
    """

    num_classes: int
    features: tuple[int, int, int] = (32, 64, 96)

    GRAIN = 8  # height and width of an image must be multiples of it

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Reads panoramas.

        Args:
          images: [B, H, W, 3] in [-1, 1]; H and W multiples of `GRAIN`.

        Returns:
          Class logits [B, H, W, num_classes] and the natural logarithm of the depth in metres
          [B, H, W], which has no meaning in the sky.
        """
        fine, middle, coarse = self.features
        # The same output at full size, without folding, would cost three times as much.
        x0 = _Block(fine)(fold(_add_rows(images), _PATCH))
        x1 = _Block(middle)(_conv(middle, strides=2)(x0))
        x2 = _Block(coarse)(_conv(coarse, strides=2)(x1))
        x1 = _Block(middle, 1)(jnp.concatenate([x1, upsample(x2, True)], -1))
        x0 = _Block(fine, 1)(jnp.concatenate([x0, upsample(x1, True)], -1))
        answers = unfold(_conv(_PATCH**2 * (self.num_classes + 1), 1)(x0), _PATCH)
        return answers[..., :-1], answers[..., -1]


class _Block(nn.Module):
    """A convolution of `first_size` that sets the number of channels, then a residual pair."""

    features: int
    first_size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = leaky_relu(_conv(self.features, self.first_size)(x))
        h = leaky_relu(_conv(self.features)(x))
        return leaky_relu(x + _conv(self.features)(h))


def _conv(features: int, kernel_size: int = 3, strides: int = 1) -> Conv:
    return Conv(features, kernel_size, strides, circular=True)


def _add_rows(images: jax.Array) -> jax.Array:
    """Adds a fourth channel: the row, from -1 at the top to 1 at the bottom."""
    rows = jnp.linspace(-1.0, 1.0, images.shape[1], dtype=images.dtype)[:, None, None]
    return jnp.concatenate([images, jnp.broadcast_to(rows, (*images.shape[:3], 1))], -1)
