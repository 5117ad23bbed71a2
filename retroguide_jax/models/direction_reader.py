"""What stands in each direction, read off an aerial image's tokens at all distances at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Dtype, leaky_relu
from retroguide_jax.models.polar import to_polar

_REACH = 2


class DirectionReader(nn.Module):
    """A map whose columns are functions of all tokens in their own and in near directions.

    Attention averages what a position looks at. How high the skyline is and what hides what depend
    on everything along a direction together: here its tokens are one long vector, which a
    perceptron with `depth` residual layers turns into the column of the map. Each of these layers
    first blends the vector with those of the `_REACH` nearest directions on either side, channel by
    channel.

    This project's own part; the paper has none like it. `width`, that of the vector, is a multiple
    of 16; `size` is that of the map, which goes round a full circle; `token_grid` (rows, columns)
    that of the aerial's tokens.
    """

    size: tuple[int, int]
    features: int
    token_grid: tuple[int, int]
    width: int
    depth: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens [B, N, T] to a map [B, *size, features]."""
        distances, (rows, columns) = self.token_grid[0], self.size
        tokens = tokens.reshape(-1, *self.token_grid, tokens.shape[-1])
        seen = nn.Dense(self.width // 16, dtype=self.dtype)(to_polar(tokens, (distances, columns)))
        seen = leaky_relu(seen).swapaxes(1, 2).reshape(-1, columns, distances * seen.shape[-1])
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
        return column.reshape(-1, columns, rows, self.features).swapaxes(1, 2)
