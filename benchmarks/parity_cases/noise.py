"""The random numbers of a training step for the twin, drawn from keys as on our side.

Their floating type is the one that `precision.use` sets.
"""

import jax
import numpy as np


def draw_maps(keys: jax.Array, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Draws the noise maps of a generator.

    Args:
      keys: [B], as our `Generator.synthesize` takes them.
      sizes: two per block, as the twin's `Generator.noise_sizes` lists them.

    Returns:
      One map [B, 1, H, W] per size.
    """
    folded = jax.vmap(jax.random.fold_in, (0, None))
    return [
        draw_map(folded(folded(keys, index // 2), index % 2), size)
        for index, size in enumerate(sizes)
    ]


def draw_map(keys: jax.Array, size: tuple[int, int]) -> np.ndarray:
    """Draws one map [B, 1, H, W] from a layer's own keys [B]."""
    rows = jax.vmap(lambda key: jax.random.normal(key, (*size, 1)))(keys)
    return np.array(np.moveaxis(rows, -1, 1))


def draw_step(config, generator, step: int):
    """Draws the fields z, other, maps of `Noise` as `retroguide_jax.training.adversarial` does.

    Args:
      config: of the run.
      generator: the twin's, for its sizes.
      step: number of the step.
    """
    num, style = config.train.adversarial_batch_size, config.losses.style
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    keys = jax.random.split(jax.random.fold_in(key, 0), num)
    first, second = jax.random.split(jax.random.fold_in(key, 1), 2)
    num_codes = max(num, config.losses.style_draws)
    z = jax.random.normal(first, (num_codes, generator.z_dim))
    widths = {"encoder": config.generator.style_dim, "mode_seeking": generator.z_dim}
    other = jax.random.normal(second, (num, widths[style])) if style in widths else None
    other = None if other is None else np.array(other)
    return np.array(z), other, draw_maps(keys, generator.noise_sizes())
