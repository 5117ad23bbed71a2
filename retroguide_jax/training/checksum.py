"""A number for a tree of arrays that shows whether any of it has changed."""

from typing import Any

import jax
import jax.numpy as jnp


def compute_checksum(tree: Any) -> int:
    """Sums the bits of all arrays, each array's weighted by an odd number of its own.

    Whole numbers add up to the same in any order: sharding and the number of devices do not
    matter. One changed element always changes the sum, any other change all but surely. Storage
    does not notice by itself: a flipped bit in a compressed array is read back as another number.
    Every process must call this.

    Args:
      tree: of arrays with elements of 32 bits.

    Returns:
      0 .. 2**32 - 1, on every process.
    """
    return int(_sum_bits(tree))


@jax.jit
def _sum_bits(tree: Any) -> jax.Array:
    sums = [
        jax.lax.bitcast_convert_type(leaf, jnp.uint32).sum(dtype=jnp.uint32)
        for leaf in jax.tree.leaves(tree)
    ]
    # Odd factors are invertible modulo 2**32: no change of one array is lost.
    return (jnp.stack(sums) * (2 * jnp.arange(len(sums), dtype=jnp.uint32) + 1)).sum()
