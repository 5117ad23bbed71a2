"""Noise of the generator, reproducible from a seed."""

import jax
import jax.numpy as jnp
import numpy as np


def draw_noise(seed: int, num_samples: int, z_dim: int) -> np.ndarray:
    """Standard normal float32 [K, z_dim]; row k is a function of (seed, k) alone.

    Args:
      seed: 0 .. 2^31 - 1.
      num_samples: K.
      z_dim: length of a noise vector.
    """
    key = jax.random.key(seed)
    rows = [jax.random.normal(jax.random.fold_in(key, k), (z_dim,)) for k in range(num_samples)]
    return np.stack([np.asarray(row) for row in rows])


def draw_noises(seed: int, index: np.ndarray, num_noises: int, z_dim: int) -> np.ndarray:
    """Standard normal float32 [K, B, z_dim], a function of (seed, index[b], k) alone.

    Args:
      seed: seed of the evaluation.
      index: int [B], positions of the examples in their split.
      num_noises: K.
      z_dim: length of one noise vector.
    """
    return np.asarray(_draw_noises(seed, jnp.asarray(index, jnp.int32), num_noises, z_dim))


def _draw_example(seed, index, num_noises: int, z_dim: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), index)
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(num_noises))
    return jax.vmap(lambda k: jax.random.normal(k, (z_dim,)))(keys)


_draw_noises = jax.jit(
    jax.vmap(_draw_example, in_axes=(None, 0, None, None), out_axes=1),
    static_argnums=(2, 3),
)
