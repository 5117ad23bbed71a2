"""The noise of sample k, the same for everyone who asks for a seed."""

import jax
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
