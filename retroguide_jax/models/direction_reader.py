"""What stands in each direction, read off all the source's tokens there at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Dtype, leaky_relu
from retroguide_jax.models.polar import from_polar, to_polar

_REACH = 2


class DirectionReader(nn.Module):
    """A map whose lines from the camera are functions of all tokens in and near each direction.

    Attention averages what a position looks at. How high the skyline is, what hides what, and how
    far the things of a panorama's column are depend on everything in a direction together: here its
    tokens are one long vector, which a perceptron with `depth` residual layers turns into what the
    map shows there. Each of these layers first blends the vector with those of the `_REACH` nearest
    directions on either side, channel by channel.

    Where the map is a panorama (`circular`), the tokens are sampled from the aerial source at as
    many distances as it has rows, and the perceptron draws the columns of the map. Where it is an
    aerial image, the tokens are the panorama's columns, and it draws lines from the middle of the
    map to beyond its edges, between which each place of the map interpolates.

    This project's own part; the paper has none like it. `width`, that of the vector, is a multiple
    of 16; `size` is that of the map; `token_grid` (rows, columns) that of the source's tokens.
    """

    size: tuple[int, int]
    features: int
    token_grid: tuple[int, int]
    width: int
    circular: bool = True
    depth: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens [B, N, T] to a map [B, *size, features]."""
        (deep, directions), (rows, columns) = self.token_grid, self.size
        tokens = tokens.reshape(-1, deep, directions, tokens.shape[-1])
        if self.circular:
            directions = columns
            tokens = to_polar(tokens, (deep, directions))
        else:
            rows //= 2  # of a line: from the middle of the map to a corner
        seen = leaky_relu(nn.Dense(self.width // 16, dtype=self.dtype)(tokens))
        seen = seen.swapaxes(1, 2).reshape(-1, directions, deep * seen.shape[-1])
        column = nn.Dense(self.width, dtype=self.dtype)(seen)
        taps = 2 * _REACH + 1
        init = nn.initializers.normal(taps**-0.5)
        near = self.param("near", init, (self.depth, taps, self.width)).astype(self.dtype)
        for weights in near:
            h = leaky_relu(nn.RMSNorm(dtype=self.dtype)(column))
            h = sum(jnp.roll(h, tap - _REACH, 1) * weights[tap] for tap in range(taps))
            column += nn.Dense(self.width, dtype=self.dtype)(h)
        column = leaky_relu(nn.RMSNorm(dtype=self.dtype)(column))
        column = nn.Dense(rows * self.features, dtype=self.dtype)(column)
        lines = column.reshape(-1, directions, rows, self.features).swapaxes(1, 2)
        return lines if self.circular else from_polar(lines, columns)
