"""Space to depth and back: the pixels of a patch as channels of one position."""

import jax


def fold(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] to [B, H / size, W / size, size * size * C]: patches, row by row."""
    if size == 1:
        return x
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return x.reshape(batch, height // size, width // size, size * size * channels)


def unfold(x: jax.Array, size: int) -> jax.Array:
    """Inverse of `fold`: [B, H, W, size * size * C] to [B, size * H, size * W, C]."""
    if size == 1:
        return x
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, size, size, -1).swapaxes(2, 3)
    return x.reshape(batch, height * size, width * size, -1)
